package openclaw

import "errors"

// Outcome says what is known about a node command after a call.
type Outcome string

// The three outcomes.
const (
	// OutcomeDone: the node ran the command and its answer, good or bad, is known.
	OutcomeDone Outcome = "done"
	// OutcomeNotSent: the command never reached the node and may be sent again.
	OutcomeNotSent Outcome = "not_sent"
	// OutcomeUnknown: the command may have run, may run later, or may never run. Read the state back before acting again.
	OutcomeUnknown Outcome = "unknown"
)

// ClassifyInvoke says what the error of a node.invoke means. Whatever it does not recognise is unknown, because a wrong
// "not sent" would run a command twice.
func ClassifyInvoke(err error) Outcome {
	if err == nil {
		return OutcomeDone
	}
	if errors.Is(err, ErrNotConnected) || errors.Is(err, ErrNotSent) {
		return OutcomeNotSent
	}
	var e *Error
	if !errors.As(err, &e) {
		return OutcomeUnknown
	}
	if o := e.Details.Outcome(); o != "" {
		return o
	}
	return classifyRefusal(e)
}

// classifyRefusal reads what the gateway said about the dispatch before it reads codes, because a node's own error may
// carry any code.
func classifyRefusal(e *Error) Outcome {
	nodeErr, answered := e.Details.NodeError()
	dispatched, stated := e.Details.Dispatched()
	switch {
	case stated && !dispatched:
		return OutcomeNotSent
	case answered && nodeErr.Code == DetailNotConnected && !stated:
		return OutcomeNotSent
	case answered:
		return classifyNodeError(nodeErr, stated)
	case stated:
		return OutcomeUnknown
	}
	switch e.Code {
	case CodeInvalidRequest, CodeForbidden, CodeNotPaired:
		return OutcomeNotSent
	}
	switch e.Details.Code() {
	case DetailNotConnected, DetailPairingChanged, DetailMissingScope:
		return OutcomeNotSent
	}
	if e.Details.Reason() == reasonStartup {
		return OutcomeNotSent
	}
	return OutcomeUnknown
}

// classifyNodeError tells errors that a node answered from those that the gateway made up while it waited.
func classifyNodeError(n NodeError, dispatchStated bool) Outcome {
	switch n.Code {
	case nodeTimeout, nodeDisconnected, nodeAborted:
		return OutcomeUnknown
	case CodeUnavailable:
		// Older gateways say "failed to send invoke to node" with this code; a newer one would have stated the dispatch.
		if !dispatchStated {
			return OutcomeUnknown
		}
	case "":
		return OutcomeUnknown
	}
	return OutcomeDone
}

const (
	nodeTimeout      = "TIMEOUT"
	nodeDisconnected = "DISCONNECTED"
	nodeAborted      = "ABORTED"
	reasonStartup    = "startup-sidecars"
)
