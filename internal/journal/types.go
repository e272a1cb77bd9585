package journal

// Types of records.
const (
	TypeEngineStarted   Type = "engine_started"
	TypeEngineStopped   Type = "engine_stopped"
	TypeConfigChanged   Type = "config_changed"
	TypeIncidentOpened  Type = "incident_opened"
	TypeEvidenceAdded   Type = "evidence_added"
	TypeIncidentMerged  Type = "incident_merged"
	TypeNodeBack        Type = "node_back"
	TypeIncidentPhase   Type = "incident_phase"
	TypeStepDone        Type = "step_done"
	TypeRecoveryOpened  Type = "recovery_opened"
	TypeRecoveryStep    Type = "recovery_step"
	TypeHeld            Type = "held"
	TypeReleased        Type = "released"
	TypeIntent          Type = "intent"
	TypeResult          Type = "result"
	TypeSafe            Type = "safe"
	TypeRunning         Type = "running"
	TypeOverlap         Type = "overlap"
	TypeMarkSet         Type = "mark_set"
	TypeMarkCleared     Type = "mark_cleared"
	TypeBudgetSpent     Type = "budget_spent"
	TypeBudgetBack      Type = "budget_back"
	TypeOffender        Type = "offender"
	TypeTransientSeen   Type = "transient_seen"
	TypeXidSeen         Type = "xid_seen"
	TypeRepairTried     Type = "repair_tried"
	TypeCulpritTold     Type = "culprit_told"
	TypePairChecked     Type = "pair_checked"
	TypeIsolated        Type = "isolated"
	TypeRestartCounted  Type = "restart_counted"
	TypeRestartReset    Type = "restart_reset"
	TypeApprovalAsked   Type = "approval_asked"
	TypeApprovalGiven   Type = "approval_given"
	TypeApprovalUsed    Type = "approval_used"
	TypeApprovalExpired Type = "approval_expired"
	TypeCommand         Type = "command"
	TypePauseSet        Type = "pause_set"
	TypePauseCleared    Type = "pause_cleared"
	TypeVetoSet         Type = "veto_set"
	TypeVetoCleared     Type = "veto_cleared"
	TypeFenceConfirmed  Type = "fence_confirmed"
	TypeFenceUsed       Type = "fence_used"
	TypeStormBegan      Type = "storm_began"
	TypeStormEnded      Type = "storm_ended"
	TypeAlertQueued     Type = "alert_queued"
	TypeAlertSent       Type = "alert_sent"
	TypeAlertFailed     Type = "alert_failed"
	TypeAlertSilenced   Type = "alert_silenced"
	TypePostMortem      Type = "postmortem"
	TypeNotice          Type = "notice"
	TypeShadowed        Type = "shadowed"
	TypeSnapshot        Type = "snapshot"
)

// Type returns TypeEngineStarted.
func (EngineStarted) Type() Type { return TypeEngineStarted }

// Type returns TypeEngineStopped.
func (EngineStopped) Type() Type { return TypeEngineStopped }

// Type returns TypeConfigChanged.
func (ConfigChanged) Type() Type { return TypeConfigChanged }

// Type returns TypeIncidentOpened.
func (IncidentOpened) Type() Type { return TypeIncidentOpened }

// Type returns TypeEvidenceAdded.
func (EvidenceAdded) Type() Type { return TypeEvidenceAdded }

// Type returns TypeIncidentMerged.
func (IncidentMerged) Type() Type { return TypeIncidentMerged }

// Type returns TypeNodeBack.
func (NodeBack) Type() Type { return TypeNodeBack }

// Type returns TypeIncidentPhase.
func (IncidentPhase) Type() Type { return TypeIncidentPhase }

// Type returns TypeStepDone.
func (StepDone) Type() Type { return TypeStepDone }

// Type returns TypeRecoveryOpened.
func (RecoveryOpened) Type() Type { return TypeRecoveryOpened }

// Type returns TypeRecoveryStep.
func (RecoveryStep) Type() Type { return TypeRecoveryStep }

// Type returns TypeHeld.
func (Held) Type() Type { return TypeHeld }

// Type returns TypeReleased.
func (Released) Type() Type { return TypeReleased }

// Type returns TypeIntent.
func (Intent) Type() Type { return TypeIntent }

// Type returns TypeResult.
func (Result) Type() Type { return TypeResult }

// Type returns TypeSafe.
func (Safe) Type() Type { return TypeSafe }

// Type returns TypeRunning.
func (Running) Type() Type { return TypeRunning }

// Type returns TypeOverlap.
func (Overlap) Type() Type { return TypeOverlap }

// Type returns TypeMarkSet.
func (MarkSet) Type() Type { return TypeMarkSet }

// Type returns TypeMarkCleared.
func (MarkCleared) Type() Type { return TypeMarkCleared }

// Type returns TypeBudgetSpent.
func (BudgetSpent) Type() Type { return TypeBudgetSpent }

// Type returns TypeBudgetBack.
func (BudgetBack) Type() Type { return TypeBudgetBack }

// Type returns TypeOffender.
func (Offender) Type() Type { return TypeOffender }

// Type returns TypeTransientSeen.
func (TransientSeen) Type() Type { return TypeTransientSeen }

// Type returns TypeXidSeen.
func (XidSeen) Type() Type { return TypeXidSeen }

// Type returns TypeRepairTried.
func (RepairTried) Type() Type { return TypeRepairTried }

// Type returns TypeCulpritTold.
func (CulpritTold) Type() Type { return TypeCulpritTold }

// Type returns TypePairChecked.
func (PairChecked) Type() Type { return TypePairChecked }

// Type returns TypeIsolated.
func (Isolated) Type() Type { return TypeIsolated }

// Type returns TypeRestartCounted.
func (RestartCounted) Type() Type { return TypeRestartCounted }

// Type returns TypeRestartReset.
func (RestartReset) Type() Type { return TypeRestartReset }

// Type returns TypeApprovalAsked.
func (ApprovalAsked) Type() Type { return TypeApprovalAsked }

// Type returns TypeApprovalGiven.
func (ApprovalGiven) Type() Type { return TypeApprovalGiven }

// Type returns TypeApprovalUsed.
func (ApprovalUsed) Type() Type { return TypeApprovalUsed }

// Type returns TypeApprovalExpired.
func (ApprovalExpired) Type() Type { return TypeApprovalExpired }

// Type returns TypeCommand.
func (Command) Type() Type { return TypeCommand }

// Type returns TypePauseSet.
func (PauseSet) Type() Type { return TypePauseSet }

// Type returns TypePauseCleared.
func (PauseCleared) Type() Type { return TypePauseCleared }

// Type returns TypeVetoSet.
func (VetoSet) Type() Type { return TypeVetoSet }

// Type returns TypeVetoCleared.
func (VetoCleared) Type() Type { return TypeVetoCleared }

// Type returns TypeFenceConfirmed.
func (FenceConfirmed) Type() Type { return TypeFenceConfirmed }

// Type returns TypeFenceUsed.
func (FenceUsed) Type() Type { return TypeFenceUsed }

// Type returns TypeStormBegan.
func (StormBegan) Type() Type { return TypeStormBegan }

// Type returns TypeStormEnded.
func (StormEnded) Type() Type { return TypeStormEnded }

// Type returns TypeAlertQueued.
func (AlertQueued) Type() Type { return TypeAlertQueued }

// Type returns TypeAlertSent.
func (AlertSent) Type() Type { return TypeAlertSent }

// Type returns TypeAlertFailed.
func (AlertFailed) Type() Type { return TypeAlertFailed }

// Type returns TypeAlertSilenced.
func (AlertSilenced) Type() Type { return TypeAlertSilenced }

// Type returns TypePostMortem.
func (PostMortem) Type() Type { return TypePostMortem }

// Type returns TypeNotice.
func (Notice) Type() Type { return TypeNotice }

// Type returns TypeShadowed.
func (Shadowed) Type() Type { return TypeShadowed }

// Type returns TypeSnapshot.
func (Snapshot) Type() Type { return TypeSnapshot }

// decoders holds one decoder a type: the closed set of records.
var decoders = map[Type]func([]byte) (Payload, error){
	TypeEngineStarted:   decode[EngineStarted],
	TypeEngineStopped:   decode[EngineStopped],
	TypeConfigChanged:   decode[ConfigChanged],
	TypeIncidentOpened:  decode[IncidentOpened],
	TypeEvidenceAdded:   decode[EvidenceAdded],
	TypeIncidentMerged:  decode[IncidentMerged],
	TypeNodeBack:        decode[NodeBack],
	TypeIncidentPhase:   decode[IncidentPhase],
	TypeStepDone:        decode[StepDone],
	TypeRecoveryOpened:  decode[RecoveryOpened],
	TypeRecoveryStep:    decode[RecoveryStep],
	TypeHeld:            decode[Held],
	TypeReleased:        decode[Released],
	TypeIntent:          decode[Intent],
	TypeResult:          decode[Result],
	TypeSafe:            decode[Safe],
	TypeRunning:         decode[Running],
	TypeOverlap:         decode[Overlap],
	TypeMarkSet:         decode[MarkSet],
	TypeMarkCleared:     decode[MarkCleared],
	TypeBudgetSpent:     decode[BudgetSpent],
	TypeBudgetBack:      decode[BudgetBack],
	TypeOffender:        decode[Offender],
	TypeTransientSeen:   decode[TransientSeen],
	TypeXidSeen:         decode[XidSeen],
	TypeRepairTried:     decode[RepairTried],
	TypeCulpritTold:     decode[CulpritTold],
	TypePairChecked:     decode[PairChecked],
	TypeIsolated:        decode[Isolated],
	TypeRestartCounted:  decode[RestartCounted],
	TypeRestartReset:    decode[RestartReset],
	TypeApprovalAsked:   decode[ApprovalAsked],
	TypeApprovalGiven:   decode[ApprovalGiven],
	TypeApprovalUsed:    decode[ApprovalUsed],
	TypeApprovalExpired: decode[ApprovalExpired],
	TypeCommand:         decode[Command],
	TypePauseSet:        decode[PauseSet],
	TypePauseCleared:    decode[PauseCleared],
	TypeVetoSet:         decode[VetoSet],
	TypeVetoCleared:     decode[VetoCleared],
	TypeFenceConfirmed:  decode[FenceConfirmed],
	TypeFenceUsed:       decode[FenceUsed],
	TypeStormBegan:      decode[StormBegan],
	TypeStormEnded:      decode[StormEnded],
	TypeAlertQueued:     decode[AlertQueued],
	TypeAlertSent:       decode[AlertSent],
	TypeAlertFailed:     decode[AlertFailed],
	TypeAlertSilenced:   decode[AlertSilenced],
	TypePostMortem:      decode[PostMortem],
	TypeRoomPlanned:     decode[RoomPlanned],
	TypeRoomBegun:       decode[RoomBegun],
	TypeRoomOver:        decode[RoomOver],
	TypeDisplacedOver:   decode[DisplacedOver],
	TypeScaledBack:      decode[ScaledBack],
	TypeNotice:          decode[Notice],
	TypeShadowed:        decode[Shadowed],
	TypeSnapshot:        decode[Snapshot],
}
