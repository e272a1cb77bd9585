package tool

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"autoheal.dev/autoheal"
)

// pointsShown is how many of the latest points of a series are shown; the summary covers all of them.
const pointsShown = 20

// MetricsQueryIn are the parameters of metrics_query.
type MetricsQueryIn struct {
	Metric     string            `json:"metric" jsonschema:"such as gpu_utilization, gpu_memory_used, gpu_temperature, gpu_health or workload_duration"`
	NodeID     string            `json:"nodeId,omitempty"`
	WorkloadID string            `json:"workloadId,omitempty"`
	Labels     map[string]string `json:"labels,omitempty" jsonschema:"such as node_id and workload_id"`
	StartTime  string            `json:"startTime,omitempty" check:"default=-1h" jsonschema:"an age such as -1h, or an ISO 8601 time"`
	EndTime    string            `json:"endTime,omitempty" check:"default=now" jsonschema:"an age, an ISO 8601 time, or now"`
	Step       string            `json:"step,omitempty" check:"default=1m" jsonschema:"time between points, such as 1m"`
}

// MetricsQueryOut is the result of metrics_query.
type MetricsQueryOut struct {
	Metric string         `json:"metric"`
	Series []MetricSeries `json:"series"`
}

// MetricSeries is one series found.
type MetricSeries struct {
	Name      string            `json:"name"`
	Labels    map[string]string `json:"labels"`
	Points    []autoheal.Point  `json:"points" jsonschema:"the last 20"`
	Summary   *MetricSummary    `json:"summary" jsonschema:"of all points; null when there are none"`
	Simulated bool              `json:"simulated" jsonschema:"of a GPU that is made up"`
}

// MetricSummary sums a series up.
type MetricSummary struct {
	Min    float64 `json:"min"`
	Max    float64 `json:"max"`
	Avg    float64 `json:"avg"`
	Latest float64 `json:"latest"`
}

func metricsQuery(ctx context.Context, env *Env, in MetricsQueryIn) (MetricsQueryOut, error) {
	q := autoheal.MetricQuery{Metric: in.Metric, Labels: maps.Clone(in.Labels)}
	var err error
	if q.Since, q.Until, err = timeRange(env, in.StartTime, in.EndTime); err != nil {
		return MetricsQueryOut{}, err
	}
	if q.Step, err = parseAge("step", in.Step); err != nil {
		return MetricsQueryOut{}, err
	}
	if err := addSubjects(ctx, env, in, &q); err != nil {
		return MetricsQueryOut{}, err
	}
	nodes, err := env.Healer.Nodes(ctx)
	if err != nil {
		return MetricsQueryOut{}, fmt.Errorf("list nodes: %w", err)
	}
	simulated := simulatedGPUs(nodes)
	out := MetricsQueryOut{Metric: in.Metric}
	for s, err := range env.Cluster.Metrics(ctx, q) {
		if err != nil {
			return MetricsQueryOut{}, fmt.Errorf("query %s: %w", short(in.Metric), err)
		}
		out.Series = append(out.Series, MetricSeries{
			Name: seriesName(s), Labels: s.Labels, Points: s.Points[max(0, len(s.Points)-pointsShown):], Summary: summarise(s.Points),
			Simulated: simulated[autoheal.GPUID(s.Labels["gpu"])] || s.Labels["simulated"] == "true",
		})
	}
	slices.SortFunc(out.Series, func(a, b MetricSeries) int { return cmp.Compare(a.Name, b.Name) })
	return out, nil
}

func addSubjects(ctx context.Context, env *Env, in MetricsQueryIn, q *autoheal.MetricQuery) error {
	if q.Labels == nil {
		q.Labels = map[string]string{}
	}
	if in.NodeID != "" {
		n, err := findNode(ctx, env, in.NodeID)
		if err != nil {
			return err
		}
		q.Labels["node_id"] = string(n.ID)
	}
	if in.WorkloadID != "" {
		w, err := findWorkload(ctx, env, in.WorkloadID)
		if err != nil {
			return err
		}
		q.Labels["workload_id"] = string(w.ID)
	}
	return nil
}

func seriesName(s autoheal.Series) string {
	if len(s.Labels) == 0 {
		return s.Name
	}
	var b strings.Builder
	b.WriteString(s.Name + "{")
	for i, k := range slices.Sorted(maps.Keys(s.Labels)) {
		if i > 0 {
			b.WriteString(",")
		}
		b.WriteString(k + "=" + strconv.Quote(s.Labels[k]))
	}
	return b.String() + "}"
}

func summarise(points []autoheal.Point) *MetricSummary {
	if len(points) == 0 {
		return nil
	}
	s := MetricSummary{Min: points[0].Value, Max: points[0].Value, Latest: points[len(points)-1].Value}
	sum := 0.0
	for _, p := range points {
		s.Min, s.Max = min(s.Min, p.Value), max(s.Max, p.Value)
		sum += p.Value
	}
	s.Avg = sum / float64(len(points))
	return &s
}
