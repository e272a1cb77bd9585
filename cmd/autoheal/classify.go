package main

import (
	"fmt"
	"io"
	"os"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"autoheal.dev/autoheal"
	"autoheal.dev/autoheal/internal/app"
	"autoheal.dev/autoheal/internal/signal"
	"autoheal.dev/autoheal/internal/signal/source"
	"autoheal.dev/autoheal/internal/surface/cli"
)

// classifyCommand says what a log means; it needs no healer and changes nothing.
func classifyCommand(std stdio) *cobra.Command {
	var kind, batch, config, gpus string
	cmd := &cobra.Command{
		Use: "classify [FILE|-]", Short: "Say what failed in a log, what to do, and why", Args: cobra.MaximumNArgs(1),
		Long: `Read a log of the kernel or of a workload and say what failed: the first cause rather than what followed from it, what
to do about it, and the lines that say so. It needs no cluster. FILE may be what dmesg, journalctl, syslog, a container
runtime or a program wrote, plain or gzip; which one is found out. Without FILE, standard input is read.

--kind says where the text is from. In a workload's output a line of the kernel is only a quotation, and the other way
round. With --batch every line of FILE.jsonl is {"id": …, "text": …, "kind": "kernel", "workload" or "mixed"}, and for
each one line {"id", "verdict", "signals"} is printed, in the same order.`,
		Example: `  dmesg | autoheal classify
  autoheal classify /var/log/kern.log.2.gz -o json
  kubectl logs trainer-0 | autoheal classify --kind workload
  autoheal classify --batch excerpts.jsonl`,
		RunE: func(cmd *cobra.Command, args []string) error {
			k, ok := kinds[kind]
			if !ok {
				return &cli.UsageError{Text: fmt.Sprintf("--kind %q: expected kernel, workload or mixed", kind)}
			}
			if batch != "" && len(args) > 0 {
				return &cli.UsageError{Text: "name a log or say --batch, not both"}
			}
			c, err := catalogueOf(cmd, config)
			if err != nil {
				return err
			}
			inv, err := inventoryOf(gpus)
			if err != nil {
				return err
			}
			if batch != "" {
				return withInput(std, batch, func(r io.Reader) error { return classifyBatch(std, batchName(batch), r, c, inv) })
			}
			name := "-"
			if len(args) > 0 {
				name = args[0]
			}
			return withInput(std, name, func(r io.Reader) error { return classifyLog(cmd, std, r, c, k, inv) })
		},
	}
	cmd.Flags().StringVar(&kind, "kind", "mixed", "where the text is from: kernel, workload or mixed")
	cmd.Flags().StringVar(&batch, "batch", "", "judge every line of this JSONL file; - is standard input")
	cmd.Flags().StringVar(&gpus, "gpus", "", "GPUs of the node, to name them by UUID and index: output of nvidia-smi --query-gpu=index,uuid,pci.bus_id --format=csv")
	cmd.Flags().StringVar(&config, "config", "", "configuration whose signal rules count (default: config.yaml in the data directory, if there is one)")
	return cmd
}

// kinds are the words of --kind and of a batch.
var kinds = map[string]signal.Kind{
	"kernel": signal.KindKernel, "workload": signal.KindWorkload, "mixed": signal.KindAny, "": signal.KindAny,
}

// catalogueOf compiles the catalogue with the rules of the configuration.
func catalogueOf(cmd *cobra.Command, config string) (*signal.Catalogue, error) {
	l, err := app.LoadConfig(config, dataDir(cmd), nil)
	if err != nil {
		return nil, err
	}
	return l.Policy.Signals.Catalogue()
}

// inventoryOf reads the GPUs of a node; without a file nothing is known of them.
func inventoryOf(file string) (*signal.Inventory, error) {
	if file == "" {
		return nil, nil
	}
	b, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("read the GPUs: %w", err)
	}
	inv, err := signal.ParseInventory(string(b))
	if err != nil {
		return nil, fmt.Errorf("read the GPUs: %s: %w", file, err)
	}
	return inv, nil
}

func withInput(std stdio, name string, use func(io.Reader) error) error {
	if name == "-" {
		return use(std.in)
	}
	f, err := os.Open(name)
	if err != nil {
		return fmt.Errorf("read the log: %w", err)
	}
	defer f.Close()
	return use(f)
}

// judged is what classify prints, for a log and for each entry of a batch.
type judged struct {
	Verdict signal.Verdict `json:"verdict"`
	Signals []signalView   `json:"signals"`
}

// signalView is a signal as people and programs see it.
type signalView struct {
	Code     string            `json:"code"`
	Name     string            `json:"name"`
	Failure  autoheal.Failure  `json:"failure"`
	Action   autoheal.Advice   `json:"action"`
	Severity signal.Severity   `json:"severity"`
	Scope    signal.Scope      `json:"scope"`
	Subject  autoheal.Ref      `json:"subject"`
	Count    int               `json:"count"`
	Line     int               `json:"line"`
	LastLine int               `json:"lastLine"`
	At       *time.Time        `json:"at"` // null if the line has no date
	Fields   map[string]string `json:"fields"`
	Excerpt  string            `json:"excerpt"`
}

func judge(b *signal.Book) judged {
	out := judged{Verdict: b.Verdict(), Signals: []signalView{}}
	for _, e := range b.Entries() {
		s := e.Signal()
		v := signalView{
			Code: e.Code, Name: e.Name, Failure: s.Failure, Action: s.Action, Severity: e.Severity, Scope: e.Scope, Subject: s.Subject,
			Count: e.Count, Line: e.Line, LastLine: e.LastLine, Fields: s.Fields, Excerpt: s.Excerpt,
		}
		if v.Fields == nil {
			v.Fields = map[string]string{}
		}
		if !e.At.IsZero() {
			at := e.At.UTC()
			v.At = &at
		}
		out.Signals = append(out.Signals, v)
	}
	return out
}

func classifyLog(cmd *cobra.Command, std stdio, r io.Reader, c *signal.Catalogue, kind signal.Kind, inv *signal.Inventory) error {
	book := signal.NewBook(signal.BookOptions{})
	stats, err := source.Scan(r, c, kind, signal.NewStream(c, inv), func(f signal.Found) { book.Add(f) })
	if err != nil {
		return err
	}
	report := struct {
		judged
		Read      source.Stats `json:"read"`
		Benign    int          `json:"benign"`
		Withdrawn int          `json:"withdrawn"`
		Dropped   int          `json:"dropped"`
	}{judge(book), stats, book.Benign, book.Withdrawn, book.Dropped}
	if err := printAs(cmd, std.out, report, func() error {
		if err := writeJudged(std.out, report.judged); err != nil {
			return err
		}
		return writeRead(std.out, stats, book)
	}); err != nil {
		return err
	}
	if stats.Damaged != "" {
		return fmt.Errorf("the log is damaged and was read up to there only: %s", stats.Damaged)
	}
	return nil
}

func writeJudged(out io.Writer, j judged) error {
	v := j.Verdict
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintf(w, "failure\t%s\naction\t%s\n", v.Failure, v.Action)
	if v.Subject != nil {
		fmt.Fprintf(w, "subject\t%s\n", nameOf(*v.Subject))
	}
	if v.Code != "" {
		fmt.Fprintf(w, "code\t%s\n", v.Code)
	}
	fmt.Fprintf(w, "confidence\t%.2f\n", v.Confidence)
	for i, because := range v.Because {
		label := ""
		if i == 0 {
			label = "because"
		}
		fmt.Fprintf(w, "%s\t%s\n", label, because)
	}
	if len(j.Signals) > 0 {
		fmt.Fprintln(w)
	}
	if err := w.Flush(); err != nil || len(j.Signals) == 0 {
		return err
	}
	w = tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "LINE\tCOUNT\tFAILURE\tACTION\tSUBJECT\tCODE\tNAME")
	for _, s := range j.Signals {
		fmt.Fprintf(w, "%d\t%d\t%s\t%s\t%s\t%s\t%s\n", s.Line, s.Count, s.Failure, s.Action, nameOf(s.Subject), s.Code, s.Name)
	}
	return w.Flush()
}

// nameOf writes a subject; what the lines do not name stays a kind.
func nameOf(r autoheal.Ref) string {
	if r.ID == "" {
		return string(r.Kind)
	}
	return r.String()
}

// writeRead says what was read and what was not.
func writeRead(out io.Writer, s source.Stats, b *signal.Book) error {
	packed := ""
	if s.Gzip {
		packed = ", gzip"
	}
	var text strings.Builder
	text.WriteString(fmt.Sprintf("\nread %d lines, %d bytes (%s%s)", s.Lines, s.Bytes, s.Format, packed))
	for _, n := range []struct {
		count int64
		what  string
	}{
		{int64(b.Benign), "known and harmless"},
		{int64(b.Withdrawn), "taken back by a later line"},
		{s.Truncated, "too long: only their beginning was looked at"},
		{s.Undecodable, "not in the log's own format"},
		{int64(b.Dropped), "dropped: too many different ones"},
	} {
		if n.count > 0 {
			text.WriteString(fmt.Sprintf("; %d %s", n.count, n.what))
		}
	}
	_, err := fmt.Fprintln(out, text.String())
	return err
}

func batchName(name string) string {
	if name == "-" {
		return "standard input"
	}
	return name
}
