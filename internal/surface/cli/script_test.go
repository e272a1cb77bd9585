package cli_test

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"autoheal.dev/autoheal"
	"autoheal.dev/autoheal/internal/surface/cli"
	"autoheal.dev/autoheal/internal/surface/httpapi"
	"autoheal.dev/autoheal/internal/tool/tooltest"
	"github.com/rogpeppe/go-internal/testscript"
	"github.com/spf13/cobra"
)

var update = flag.Bool("update", false, "rewrite the golden parts of testdata/script")

type worldKey struct{}

// TestScripts runs the command line against a real server over the sample world. Beside testscript's commands there are:
//
//	autoheal ARGS…          run and expect exit code 0 ("! autoheal" expects another)
//	code N autoheal ARGS…   run and expect exit code N
//	hold VERB REASON ON     make commands of a verb wait
//	refuse VERB KIND TEXT   make commands of a verb fail
//	commands                print the commands that the healer got
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:                 filepath.Join("testdata", "script"),
		UpdateScripts:       *update,
		RequireExplicitExec: true,
		Setup: func(env *testscript.Env) error {
			w := tooltest.Sample()
			env.Values[worldKey{}] = w
			// A socket's path may have 107 bytes only: the folder of a script may be deeper than that.
			dir, err := os.MkdirTemp("", "ah")
			if err != nil {
				return err
			}
			srv := &httpapi.Server{Env: w.Env(), Socket: filepath.Join(dir, "api.sock")}
			if err := srv.Start(context.Background()); err != nil {
				return err
			}
			env.Defer(func() {
				if err := srv.Stop(context.Background()); err != nil {
					t.Error(err)
				}
				if err := os.RemoveAll(dir); err != nil {
					t.Error(err)
				}
			})
			env.Setenv("DATA", dir)
			env.Setenv("AUTOHEAL_SERVER", "unix:"+srv.Socket)
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"autoheal": cmdAutoheal, "code": cmdCode, "hold": cmdHold, "refuse": cmdRefuse, "commands": cmdCommands,
		},
	})
}

func deps(ts *testscript.TestScript, stdin string) cli.Deps {
	return cli.Deps{
		Stdin: strings.NewReader(stdin), Stdout: ts.Stdout(), Stderr: ts.Stderr(), Env: ts.Getenv,
		Now: func() time.Time { return tooltest.Now },
	}
}

func root(d cli.Deps) *cobra.Command {
	r := &cobra.Command{Use: "autoheal", Short: "Heal a cluster"}
	cli.AddGlobalFlags(r)
	r.AddCommand(cli.Commands(d)...)
	return r
}

func execute(ts *testscript.TestScript, args []string) int {
	stdin := ""
	for i, a := range args {
		args[i] = ts.MkAbs(a)
		if !strings.HasPrefix(a, "@") {
			args[i] = a
			continue
		}
		stdin, args = ts.ReadFile(a[1:]), append(args[:i:i], args[i+1:]...)
		break
	}
	for i, a := range args { // files are named as the script sees them
		if i > 0 && args[i-1] == "-f" && a != "-" {
			dir, err := os.Getwd()
			ts.Check(err)
			rel, err := filepath.Rel(dir, ts.MkAbs(a))
			ts.Check(err)
			args[i] = rel
		}
	}
	d := deps(ts, stdin)
	return cli.Execute(context.Background(), root(d), d, args)
}

func cmdAutoheal(ts *testscript.TestScript, neg bool, args []string) {
	if code := execute(ts, args); (code == 0) == neg {
		ts.Fatalf("exit code %d", code)
	}
}

func cmdCode(ts *testscript.TestScript, _ bool, args []string) {
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	if code := execute(ts, args[2:]); code != want {
		ts.Fatalf("exit code %d, want %d", code, want)
	}
}

func world(ts *testscript.TestScript) *tooltest.World { return ts.Value(worldKey{}).(*tooltest.World) }

func cmdHold(ts *testscript.TestScript, _ bool, args []string) {
	world(ts).Hold[autoheal.CommandVerb(args[0])] = autoheal.Held{
		Reason: autoheal.Reason(args[1]), On: args[2], Detail: args[0] + " waits", Since: tooltest.Now,
	}
}

func cmdRefuse(ts *testscript.TestScript, _ bool, args []string) {
	world(ts).Refuse[autoheal.CommandVerb(args[0])] = &autoheal.Error{Kind: autoheal.ErrorKind(args[1]), Detail: args[2]}
}

func cmdCommands(ts *testscript.TestScript, _ bool, _ []string) {
	var b bytes.Buffer
	for _, c := range world(ts).Commands() {
		fmt.Fprintf(&b, "%s target=%s/%s@%s role=%s inc=%s approval=%s scope=%s reason=%q grace=%s force=%t final=%t replicas=%d\n",
			c.Verb, c.Target.Kind, c.Target.ID, c.Target.Generation, c.Role, c.Incident, c.Approval, c.Scope, c.Reason, c.Params.Grace,
			c.Params.Force, c.Params.Final, c.Params.Replicas)
	}
	_, err := ts.Stdout().Write(b.Bytes())
	ts.Check(err)
}
