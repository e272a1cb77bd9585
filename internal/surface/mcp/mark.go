package mcp

import (
	"bytes"
	"encoding/json"
	"fmt"
	"html"
)

// The marks around what may come from the cluster's own programs.
const (
	openMark  = "<untrusted-data>"
	closeMark = "</untrusted-data>"
)

// marked puts JSON between the marks. Angle brackets in it are escaped as JSON allows, so that nothing inside can end them.
func marked(raw json.RawMessage) (string, error) {
	var flat bytes.Buffer
	if err := json.Compact(&flat, raw); err != nil {
		return "", fmt.Errorf("read JSON: %w", err)
	}
	var safe bytes.Buffer
	json.HTMLEscape(&safe, flat.Bytes())
	return openMark + "\n" + safe.String() + "\n" + closeMark, nil
}

// markedJSON wraps JSON so that it stays JSON and says of itself what it is.
func markedJSON(raw json.RawMessage) (string, error) {
	var safe bytes.Buffer
	json.HTMLEscape(&safe, raw)
	out, err := json.Marshal(struct {
		Untrusted json.RawMessage `json:"untrustedData"`
	}{safe.Bytes()})
	if err != nil {
		return "", fmt.Errorf("read JSON: %w", err)
	}
	return string(out), nil
}

// markedText puts text between the marks, its angle brackets written as HTML does.
func markedText(text string) string {
	return openMark + "\n" + html.EscapeString(text) + "\n" + closeMark
}
