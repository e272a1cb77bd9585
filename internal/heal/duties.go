package heal

// Standing duties.
const (
	dutyOld      = "old"   // older copies of a workload that run beside a newer one
	dutyReset    = "reset" // a restart counter that may be forgiven
	dutyMark     = "mark"  // a node that we cordoned: return to service
	dutyStorm    = "storm"
	dutyPage     = "page"     // the objective of a recovery passes
	dutyWarn     = "warn"     // a recovery has been held for a quarter of its objective
	dutyPace     = "pace"     // moves off silent nodes wait for their turn
	dutyOpen     = "open"     // an incident is to be marked with all that belongs to it
	dutyApproval = "approval" // an approval expires
	dutyOffer    = "offer"    // an offer that was taken waits for its gates
	dutyStarved  = "starved"  // a workload has waited for a place long enough
	dutyRoom     = "room"     // room is to be made, or is being made
	dutyBack     = "back"     // services that were scaled down are to be scaled up again
	dutyCrowd    = "crowd"    // many nodes fell silent: find out what it means
)

// step looks at one key again.
func (c *Core) step(k key) {
	i := c.d.Incidents[k.inc]
	switch {
	case k.what == dutyReset:
		c.stepReset(k.w)
	case k.what == dutyMark:
		c.stepMark(string(k.w))
	case k.what == dutyStorm:
		c.stepStorm()
	case k.what == dutyApproval, k.what == dutyOffer:
		c.stepApproval(string(k.w))
	case k.what == dutyCrowd:
		c.stepCrowd()
	case k.what == dutyOld:
		c.stepOld(k.w)
	case k.what == dutyStarved:
		c.stepStarved(k.w)
	case k.what == dutyRoom:
		c.stepRoom(k.w)
	case k.what == dutyBack:
		c.stepBack()
	case k.what == dutyPace:
		c.stepPace()
	case i == nil:
	case k.what == dutyOpen:
		c.markIncident(i)
	case k.what == dutyPage:
		c.stepPage(i, i.Recoveries[k.w])
	case k.what == dutyWarn:
		c.stepWarn(i, i.Recoveries[k.w])
	case k.w == "":
		c.stepIncident(i)
	case i.Recoveries[k.w] != nil && !i.Phase.Ended():
		c.stepRecovery(i, i.Recoveries[k.w])
	}
}
