package mcp

import (
	"context"
	"fmt"
	"regexp"

	"github.com/modelcontextprotocol/go-sdk/mcp"
)

const healPrompt = `Check cluster health and fix any issues.

1. cluster_status: what is not ready, what has failed, which incidents are open.
2. heal_plan: what would be done now, and what would hold it.
3. heal_run: do it, and wait for its report. Do not cordon, stop or submit by hand what it is taking care of.
4. For each incident that is escalated or held: incident_get, then say what it waits for and which command a person has to
   type. Never approve or confirm anything yourself.
5. For each workload that is failed or paused: workload_get and workload_logs with level error; name the root cause.
6. Report: nodes cordoned, workloads moved and restarted, what needs a person, which hardware to look at.`

const investigatePrompt = `Investigate incident %s.

1. incident_get and, if it has ended, postmortem_get: cause, evidence, what was done, what held it.
2. evidence_get and logs_search around the time of the failure: what came first?
3. Say the root cause with its confidence, whether it is transient or persistent, whether it was recovered within the
   objective, and what a person should do next, with the command to type.
Change nothing.`

// incidentID is how incidents are named.
var incidentID = regexp.MustCompile(`^inc-\d{6,}$`)

func addPrompts(s *mcp.Server) {
	s.AddPrompt(&mcp.Prompt{Name: "heal", Title: "Fix the cluster", Description: "Check cluster health and fix any issues, then report."},
		func(context.Context, *mcp.GetPromptRequest) (*mcp.GetPromptResult, error) {
			return prompt(healPrompt), nil
		})
	s.AddPrompt(&mcp.Prompt{
		Name: "investigate", Title: "Investigate an incident", Description: "Find the root cause of one incident; changes nothing.",
		Arguments: []*mcp.PromptArgument{{Name: "incident", Description: "its ID, such as inc-000017", Required: true}},
	}, func(_ context.Context, req *mcp.GetPromptRequest) (*mcp.GetPromptResult, error) {
		id := req.Params.Arguments["incident"]
		if !incidentID.MatchString(id) {
			return nil, fmt.Errorf("prompt investigate: incident %q: expected an ID such as inc-000017, see incident_list", id)
		}
		return prompt(fmt.Sprintf(investigatePrompt, id)), nil
	})
}

func prompt(text string) *mcp.GetPromptResult {
	return &mcp.GetPromptResult{Messages: []*mcp.PromptMessage{{Role: "user", Content: &mcp.TextContent{Text: text}}}}
}
