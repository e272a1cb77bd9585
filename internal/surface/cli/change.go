package cli

import (
	"encoding/json"
	"fmt"

	"autoheal.dev/autoheal/internal/tool"
)

// changeView is what every changing verb's result has.
type changeView struct {
	Success  bool     `json:"success"`
	Message  string   `json:"message"`
	Warnings []string `json:"warnings"`
	tool.Outcome
}

// change calls a changing verb and says what came of it.
func (s *session) change(verb string, in any) error {
	if err := s.noWatch(); err != nil {
		return err
	}
	raw, err := s.raw(verb, in)
	if err != nil {
		return err
	}
	return s.sayChange(raw)
}

// noWatch refuses --watch where it could only mean doing the same again on every change.
func (s *session) noWatch() error {
	if s.watch {
		return usagef("--watch: expected with a command that shows something, such as status, nodes or incidents")
	}
	return nil
}

func (s *session) sayChange(raw json.RawMessage) error {
	var v changeView
	if err := json.Unmarshal(raw, &v); err != nil {
		return fmt.Errorf("read answer: %w", err)
	}
	err := s.print(raw, func(p *page, _ json.RawMessage) error {
		p.line("%s", v.Message)
		for _, w := range v.Warnings {
			p.line("Warning: %s", w)
		}
		return nil
	})
	if err != nil {
		return err
	}
	if v.NeedsPerson() {
		return needsPerson(v.Held)
	}
	return nil
}
