package cli

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"autoheal.dev/autoheal"
	"autoheal.dev/autoheal/internal/surface/client"
	"autoheal.dev/autoheal/internal/tool"
	"github.com/spf13/cobra"
)

// Exit codes.
const (
	ExitOK          = 0
	ExitError       = 1
	ExitNeedsPerson = 2 // it was done as far as it can be without a person
	ExitUsage       = 64
)

// UsageError is a wrong command line.
type UsageError struct{ Text string }

// Error returns what was wrong and what was expected.
func (e *UsageError) Error() string { return e.Text }

func usagef(format string, args ...any) error { return &UsageError{fmt.Sprintf(format, args...)} }

// NeedsPersonError ends a command that worked, with the exit code that says that a person is needed. Its text was shown
// already.
type NeedsPersonError struct{ Text string }

// Error returns what a person is needed for.
func (e *NeedsPersonError) Error() string { return e.Text }

// ExitCode returns the exit code for what a command returned.
func ExitCode(err error) int {
	if err == nil {
		return ExitOK
	}
	if _, ok := errors.AsType[*UsageError](err); ok {
		return ExitUsage
	}
	if _, ok := errors.AsType[*NeedsPersonError](err); ok {
		return ExitNeedsPerson
	}
	if e, ok := errors.AsType[*client.Error](err); ok && e.Param != "" && e.Err.Kind == autoheal.ErrInvalid {
		return ExitUsage // the server knows what an argument may be
	}
	return ExitError
}

// Execute runs the root with args, prints what went wrong to deps.Stderr and returns the exit code. Mistakes that cobra
// finds (an unknown command or flag, a missing argument) count as usage errors.
func Execute(ctx context.Context, root *cobra.Command, deps Deps, args []string) int {
	root.SetArgs(args)
	root.SetIn(deps.Stdin)
	root.SetOut(deps.Stdout)
	root.SetErr(deps.Stderr)
	root.SilenceErrors, root.SilenceUsage = true, true
	markUsage(root)
	cmd, err := root.ExecuteContextC(ctx)
	if err != nil && strings.HasPrefix(err.Error(), "unknown command ") {
		err = usagef("%v", err)
	}
	code := ExitCode(err)
	switch _, shown := errors.AsType[*NeedsPersonError](err); {
	case err == nil || shown:
	case errors.Is(err, context.Canceled) && ctx.Err() != nil:
		fmt.Fprintln(deps.Stderr, "autoheal: interrupted; what was asked for may go on")
	case code == ExitUsage:
		fmt.Fprintf(deps.Stderr, "%s: %s\nSee '%s --help'.\n", cmd.CommandPath(), printableLines(err.Error()), cmd.CommandPath())
	default:
		fmt.Fprintf(deps.Stderr, "autoheal: %s\n", printableLines(err.Error()))
	}
	return code
}

// markUsage makes flag and argument mistakes of every command usage errors, with the usage line as what was expected.
func markUsage(root *cobra.Command) {
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return usagef("%v", err) })
	var walk func(*cobra.Command)
	walk = func(c *cobra.Command) {
		if check := c.Args; check != nil {
			c.Args = func(cmd *cobra.Command, args []string) error {
				err := check(cmd, args)
				if _, ok := errors.AsType[*UsageError](err); err == nil || ok {
					return err
				}
				return usagef("%v: expected %s", err, strings.TrimSuffix(cmd.UseLine(), " [flags]"))
			}
		}
		for _, sub := range c.Commands() {
			walk(sub)
		}
	}
	walk(root)
}

// printableLines is tool.Printable that keeps line breaks.
func printableLines(s string) string {
	lines := strings.Split(s, "\n")
	for i, l := range lines {
		lines[i] = tool.Printable(l)
	}
	return strings.Join(lines, "\n")
}
