package policy

import "strings"

// notYet lists the settings, or with a dot at the end the groups of settings, that are read and checked and that nothing
// in this version acts upon. Whoever makes one work takes it out.
var notYet = []string{
	"api.listen",
	"autoHeal.alerts.maxPerHour",
	"autoHeal.alerts.receivers",
	"autoHeal.alerts.repeatInterval",
	"cluster.approve",
	"cluster.driver",
	"cluster.tokenFile",
	"cluster.url",
	"state.journalBytes",
	"state.logBytes",
	"state.tapeBytes",
}

// NotYet returns the settings that somebody has made and that have no effect in this version, so that it can be said:
// what is accepted in silence looks as if it were in force.
func (l *Loaded) NotYet() []Setting {
	var out []Setting
	for _, s := range l.Explain() {
		if s.Origin != OriginDefault && hasNoEffect(s.Key) {
			out = append(out, s)
		}
	}
	return out
}

// Notice says it of one setting, in a line.
func (s Setting) Notice() string {
	return s.Key + " (" + s.Origin + ") has no effect in this version"
}

func hasNoEffect(key string) bool {
	for _, k := range notYet {
		if k == key || strings.HasSuffix(k, ".") && strings.HasPrefix(key, k) {
			return true
		}
	}
	return false
}
