package drill

import (
	"fmt"
	"io"
	"slices"
	"text/tabwriter"
	"time"

	"autoheal.dev/autoheal"
)

// WriteTable writes the report for a person. Each further workload of a drill gets a line below it.
func (r *Report) WriteTable(out io.Writer) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "DRILL\tKIND\tCLASS\tEXPECTED\tRESULT\tDETECTED\tSAFE\tRUNNING\tOBJECTIVE\tPROOF\tINCIDENT")
	for _, d := range r.Drills {
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\n", d.Name, d.Kind, orDash(d.Class), d.Expected, result(d), shortSeconds(d.DetectedSeconds),
			shortSeconds(d.SafeSeconds), shortSeconds(d.RunningSeconds), objective(d.ObjectiveSeconds, ownObjective(d)), orDash(d.Proof), orDash(d.Incident))
		for _, x := range others(d) {
			fmt.Fprintf(w, "  %s\t\t%s\t\t%s\t\t%s\t%s\t%s\t%s\t\n", x.Name, x.Class, x.End, shortSeconds(x.SafeSeconds), shortSeconds(x.RunningSeconds),
				objective(&x.ObjectiveSeconds, x.WithinObjective), x.Proof)
		}
	}
	if err := w.Flush(); err != nil {
		return fmt.Errorf("write table: %w", err)
	}
	for _, d := range r.Drills {
		for _, p := range d.Problems {
			fmt.Fprintf(out, "%s: %s\n", d.Name, p)
		}
		if d.Kept != "" {
			fmt.Fprintf(out, "%s: kept in %s\n", d.Name, d.Kept)
		}
	}
	_, err := fmt.Fprintf(out, "\n%d passed, %d failed, %d skipped; times of the %s profile, counted from the injection; GPUs are simulated; %d stalls noticed\n",
		r.Passed, r.Failed, r.Skipped, r.Profile, r.Stalls)
	return err
}

func result(d Row) string {
	switch {
	case d.Skipped != "":
		return "skipped"
	case d.Passed:
		return *d.Result
	case d.Result != nil:
		return *d.Result + " FAILED"
	default:
		return "FAILED"
	}
}

// ownObjective says whether the workload of the drill's own line kept its objective.
func ownObjective(d Row) *bool {
	if i := headline(d.Recoveries); i >= 0 {
		return d.Recoveries[i].WithinObjective
	}
	return nil
}

// others are the recoveries that the drill's own line does not show.
func others(d Row) []RecoveryRow {
	i := headline(d.Recoveries)
	if i < 0 {
		return d.Recoveries
	}
	return slices.Concat(d.Recoveries[:i], d.Recoveries[i+1:])
}

func orDash[T ~string](v *T) string {
	if v == nil || *v == "" {
		return "-"
	}
	return string(*v)
}

func shortSeconds(s *autoheal.Seconds) string {
	if s == nil {
		return "-"
	}
	return fmt.Sprintf("%.2fs", time.Duration(*s).Seconds())
}

func objective(s *autoheal.Seconds, within *bool) string {
	if s == nil {
		return "-"
	}
	text := time.Duration(*s).String()
	if within != nil && !*within {
		text += " MISSED"
	}
	return text
}
