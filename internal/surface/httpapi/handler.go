package httpapi

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"mime"
	"net/http"
	"runtime/debug"
	"time"

	"autoheal.dev/autoheal"
	"autoheal.dev/autoheal/internal/tool"
)

func (s *Server) handler(h *hub) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("POST /api/v1/tools/{name}", s.callTool)
	mux.HandleFunc("GET /api/v1/tools", s.listTools)
	mux.HandleFunc("GET /api/v1/tools/{name}", describeTool)
	mux.HandleFunc("GET /api/v1/events", h.serve)
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) {
		writeJSON(w, http.StatusOK, map[string]string{"status": "ok"})
	})
	mux.HandleFunc("GET /readyz", s.ready)
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		writeError(w, &autoheal.Error{Kind: autoheal.ErrNotFound, Detail: fmt.Sprintf("No such path for %s: try GET /api/v1/tools", r.Method)})
	})
	return s.contain(mux)
}

// contain turns a panic of one request into its error; the other requests and the engine go on.
func (s *Server) contain(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		defer func() {
			p := recover()
			if p == nil {
				return
			}
			if err, ok := p.(error); ok && errors.Is(err, http.ErrAbortHandler) {
				panic(p)
			}
			s.log().Error("request panicked", slog.String("path", r.URL.Path), slog.String("panic", fmt.Sprint(p)), slog.String("stack", string(debug.Stack())))
			writeError(w, errors.New("panic"))
		}()
		next.ServeHTTP(w, r)
	})
}

func (s *Server) callTool(w http.ResponseWriter, r *http.Request) {
	t, err := tool.Find(r.PathValue("name"))
	if err != nil {
		writeError(w, err)
		return
	}
	body, err := readBody(w, r)
	if err != nil {
		writeError(w, err)
		return
	}
	// The limit on reading is over: the connection is only watched for its end from here, however long the verb takes.
	_ = http.NewResponseController(w).SetReadDeadline(time.Time{})
	out, err := t.Call(r.Context(), s.Env.As(callerOf(r)), body)
	if err != nil {
		s.logFault(r, t.Name, err)
		writeError(w, err)
		return
	}
	writeRaw(w, http.StatusOK, out)
}

// logFault notes faults of ours; what a caller did wrong is told to the caller alone.
func (s *Server) logFault(r *http.Request, name string, err error) {
	if r.Context().Err() == nil && autoheal.KindOf(err) == autoheal.ErrInternal {
		s.log().Error("verb failed", slog.String("verb", name), slog.Any("error", err))
	}
}

func readBody(w http.ResponseWriter, r *http.Request) (json.RawMessage, error) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	if tooBig, ok := errors.AsType[*http.MaxBytesError](err); ok {
		return nil, &statusError{http.StatusRequestEntityTooLarge, &autoheal.Error{
			Kind: autoheal.ErrInvalid, Detail: fmt.Sprintf("Body too large: at most %d bytes", tooBig.Limit),
		}}
	}
	if err != nil {
		return nil, &autoheal.Error{Kind: autoheal.ErrInvalid, Op: "read body", Detail: "it broke off or took too long"}
	}
	// A page in a browser can send any other type to a local port without asking first.
	if ct, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); len(body) > 0 && (err != nil || ct != "application/json") {
		return nil, &statusError{http.StatusUnsupportedMediaType, &autoheal.Error{
			Kind: autoheal.ErrInvalid, Detail: "Wrong Content-Type: send application/json",
		}}
	}
	return body, nil
}

func (s *Server) listTools(w http.ResponseWriter, _ *http.Request) {
	var out struct {
		Tools []tool.Spec `json:"tools"`
	}
	for _, t := range tool.All() {
		spec, err := t.Spec()
		if err != nil {
			writeError(w, err)
			return
		}
		out.Tools = append(out.Tools, spec)
	}
	writeJSON(w, http.StatusOK, out)
}

func describeTool(w http.ResponseWriter, r *http.Request) {
	t, err := tool.Find(r.PathValue("name"))
	if err != nil {
		writeError(w, err)
		return
	}
	spec, err := t.Spec()
	if err != nil {
		writeError(w, err)
		return
	}
	writeJSON(w, http.StatusOK, spec)
}

// ready says whether the healer acts: it has a full view of the cluster and can write its journal.
func (s *Server) ready(w http.ResponseWriter, r *http.Request) {
	st, err := s.Env.Healer.Status(r.Context())
	switch {
	case err != nil:
		writeError(w, err)
	case st.Blocked != nil:
		writeError(w, &autoheal.Error{Kind: autoheal.ErrUnavailable, Detail: fmt.Sprintf("Not acting: %s: %s", st.Blocked.Reason, st.Blocked.Detail)})
	case !st.Synced:
		writeError(w, &autoheal.Error{Kind: autoheal.ErrUnavailable, Detail: "Not ready: no full view of the cluster yet"})
	default:
		writeJSON(w, http.StatusOK, map[string]string{"status": "ready"})
	}
}

// statusError is an error with an HTTP status of its own.
type statusError struct {
	status int
	err    *autoheal.Error
}

func (e *statusError) Error() string { return e.err.Error() }
func (e *statusError) Unwrap() error { return e.err }

var statusOf = map[autoheal.ErrorKind]int{
	autoheal.ErrInvalid:     http.StatusBadRequest,
	autoheal.ErrNotFound:    http.StatusNotFound,
	autoheal.ErrConflict:    http.StatusConflict,
	autoheal.ErrDenied:      http.StatusForbidden,
	autoheal.ErrUnsupported: http.StatusNotImplemented,
	autoheal.ErrUnavailable: http.StatusServiceUnavailable,
	autoheal.ErrTimeout:     http.StatusGatewayTimeout,
	autoheal.ErrInternal:    http.StatusInternalServerError,
}

type errorBody struct {
	Error errorText `json:"error"`
}

type errorText struct {
	Kind    autoheal.ErrorKind `json:"kind"`
	Message string             `json:"message"`
	Param   string             `json:"param,omitempty"`
}

func writeError(w http.ResponseWriter, err error) {
	kind := autoheal.KindOf(err)
	body := errorBody{errorText{Kind: kind, Message: err.Error()}}
	if p, ok := errors.AsType[*tool.ParamError](err); ok {
		body.Error.Param = p.Param
	}
	switch _, ours := errors.AsType[*autoheal.Error](err); {
	case errors.Is(err, context.Canceled):
		kind, body.Error = autoheal.ErrUnavailable, errorText{Kind: autoheal.ErrUnavailable, Message: "Broken off: the healer is stopping, or the caller went away"}
	case errors.Is(err, context.DeadlineExceeded):
		kind, body.Error.Kind = autoheal.ErrTimeout, autoheal.ErrTimeout
	case !ours: // an unknown fault may carry anything in its text; the log has it
		body.Error.Message = "Internal error: the healer's log has the details"
	}
	status := statusOf[kind]
	if se, ok := errors.AsType[*statusError](err); ok {
		status = se.status
	}
	if status == 0 {
		status = http.StatusInternalServerError
	}
	writeJSON(w, status, body)
}

func writeJSON(w http.ResponseWriter, status int, v any) {
	raw, err := json.Marshal(v)
	if err != nil {
		status, raw = http.StatusInternalServerError, []byte(`{"error":{"kind":"internal","message":"Internal error: the answer could not be written"}}`)
	}
	writeRaw(w, status, raw)
}

func writeRaw(w http.ResponseWriter, status int, raw json.RawMessage) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(status)
	_, _ = w.Write(append(raw, '\n')) // a caller that went away has nobody to tell
}
