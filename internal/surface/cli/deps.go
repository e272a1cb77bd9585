package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"path/filepath"
	"time"

	"autoheal.dev/autoheal/internal/surface/client"
	"autoheal.dev/autoheal/internal/tool"
	"github.com/spf13/cobra"
)

// Deps is what the commands need of the process.
type Deps struct {
	Stdin      io.Reader
	Stdout     io.Writer
	Stderr     io.Writer
	Env        func(string) string
	Now        func() time.Time
	IsTerminal bool // Stdout is one
}

// AddGlobalFlags adds the flags that every command shares to the root.
func AddGlobalFlags(root *cobra.Command) {
	f := root.PersistentFlags()
	f.String("server", "", "healer to talk to: unix:PATH or http://127.0.0.1:PORT (default $AUTOHEAL_SERVER, else api.sock in the data directory)")
	f.String("data", "", "data directory (default $XDG_STATE_HOME/autoheal)")
	f.StringP("output", "o", "table", "output format: table, json or yaml")
	f.Bool("watch", false, "show again on every change until Ctrl-C")
	f.Bool("no-color", false, "no colours (also with $NO_COLOR, or when the output is no terminal)")
	f.BoolP("verbose", "v", false, "say on the standard error which verbs are called and where")
}

// Commands returns the commands that talk to a healer, in the order of the help. The root they are added to needs
// AddGlobalFlags.
func Commands(deps Deps) []*cobra.Command {
	a := &app{deps}
	return []*cobra.Command{
		a.statusCmd(), a.healCmd(), a.whyCmd(),
		a.incidentsCmd(), a.postmortemCmd(), a.bundleCmd(), a.reportCmd(), a.shadowCmd(), a.approveCmd(), a.dismissCmd(), a.releaseCmd(), a.alertsCmd(), a.logsCmd(),
		a.nodesCmd(), a.cordonCmd(), a.uncordonCmd(), a.drainCmd(), a.fenceCmd(), a.quarantineCmd(), a.maintenanceCmd(),
		a.workloadsCmd(), a.submitCmd(), a.stopCmd(), a.scaleCmd(),
		a.pauseCmd(), a.resumeCmd(), a.vetoCmd(), a.unvetoCmd(), a.toolCmd(),
	}
}

// app makes the commands.
type app struct{ Deps }

// DataDir returns the data directory that the flags and the environment name.
func DataDir(flag string, env func(string) string) string {
	switch {
	case flag != "":
		return flag
	case env("AUTOHEAL_DATA") != "":
		return env("AUTOHEAL_DATA")
	case env("XDG_STATE_HOME") != "":
		return filepath.Join(env("XDG_STATE_HOME"), "autoheal")
	}
	return filepath.Join(env("HOME"), ".local", "state", "autoheal")
}

// ServerAddr returns the address of the healer that the flags and the environment name.
func ServerAddr(server, data string, env func(string) string) string {
	switch {
	case server != "":
		return server
	case data == "" && env("AUTOHEAL_SERVER") != "":
		return env("AUTOHEAL_SERVER")
	}
	return "unix:" + filepath.Join(DataDir(data, env), "api.sock")
}

// session is one run of one command.
type session struct {
	*app
	ctx    context.Context
	client *client.Client
	format string
	color  bool
	watch  bool
	said   io.Writer // what -v adds
}

func (a *app) open(cmd *cobra.Command) (*session, error) {
	return a.openAs(cmd, cmd.Flag("output").Value.String())
}

func (a *app) openAs(cmd *cobra.Command, format string) (*session, error) {
	get := func(name string) string { return cmd.Flag(name).Value.String() }
	if format != "table" && format != "json" && format != "yaml" {
		return nil, usagef("--output %q: expected table, json or yaml", format)
	}
	c, err := client.New(ServerAddr(get("server"), get("data"), a.Env))
	if err != nil {
		return nil, usagef("--server: %v", err)
	}
	color := a.IsTerminal && get("no-color") == "false" && a.Env("NO_COLOR") == "" && a.Env("TERM") != "dumb"
	s := &session{app: a, ctx: cmd.Context(), client: c, format: format, color: color, watch: get("watch") == "true", said: io.Discard}
	if get("verbose") == "true" {
		s.said = a.Stderr
	}
	return s, nil
}

// run wraps the body of a command: it opens the session and closes it.
func (a *app) run(body func(s *session, args []string) error) func(*cobra.Command, []string) error {
	return func(cmd *cobra.Command, args []string) error {
		s, err := a.open(cmd)
		if err != nil {
			return err
		}
		defer s.client.Close()
		return body(s, args)
	}
}

// raw calls a verb and returns its result as it is.
func (s *session) raw(name string, in any) (json.RawMessage, error) {
	fmt.Fprintf(s.said, "calling %s of the healer at %s\n", tool.Printable(name), tool.Printable(s.client.Addr()))
	var out json.RawMessage
	err := s.client.Call(s.ctx, name, in, &out)
	return out, err
}

// show calls a verb and prints its result: render writes the table.
func show[T any](s *session, name string, in any, render func(*page, T)) error {
	return s.display(func() (json.RawMessage, error) { return s.raw(name, in) }, func(p *page, raw json.RawMessage) error {
		return renderAs(p, raw, render)
	})
}

func renderAs[T any](p *page, raw json.RawMessage, render func(*page, T)) error {
	var v T
	if err := json.Unmarshal(raw, &v); err != nil {
		return fmt.Errorf("read answer: %w", err)
	}
	render(p, v)
	return nil
}
