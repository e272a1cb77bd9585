package place_test

import (
	"fmt"
	"syscall"
	"testing"
	"time"

	"autoheal.dev/autoheal"
	"autoheal.dev/autoheal/internal/place"
)

// fleet is n nodes of eight GPUs, nine tenths of them in use.
func fleet(n int) *place.Index {
	x := place.New()
	for i := range n {
		nd := node(fmt.Sprintf("n%05d", i), 8, []string{"NVIDIA H100", "NVIDIA A100"}[i%2])
		x.SetNode(nd)
		if i%10 == 0 {
			continue
		}
		for g := range 8 {
			w := cheap(fmt.Sprintf("w%d-%d", i, g), g, nd.ID, nd.GPUs[g].UUID)
			w.Request.MemoryMB = 1000
			x.SetWorkload(w)
		}
	}
	return x
}

func benchSizes(b *testing.B, run func(b *testing.B, x *place.Index)) {
	for _, n := range []int{1000, 10000} {
		b.Run(fmt.Sprintf("nodes=%d", n), func(b *testing.B) {
			x := fleet(n)
			b.ReportAllocs()
			b.ResetTimer()
			run(b, x)
		})
	}
}

func BenchmarkFit(b *testing.B) {
	benchSizes(b, func(b *testing.B, x *place.Index) {
		r := gpus(2)
		r.Need.GPUModel, r.Need.MemoryMB = "H100", 4000
		for b.Loop() {
			if _, ref := x.Fit(r); ref != nil {
				b.Fatal(ref.Detail)
			}
		}
	})
}

func BenchmarkFitRefused(b *testing.B) {
	benchSizes(b, func(b *testing.B, x *place.Index) {
		r := gpus(9)
		for b.Loop() {
			if _, ref := x.Fit(r); ref == nil {
				b.Fatal("placed")
			}
		}
	})
}

func BenchmarkUpdate(b *testing.B) {
	benchSizes(b, func(b *testing.B, x *place.Index) {
		w := running("bench", "n00000", "n00000-g0")
		for b.Loop() {
			w.State = autoheal.Running
			x.SetWorkload(w)
			w.State = autoheal.Failed
			x.SetWorkload(w)
		}
	})
}

func BenchmarkFitGang(b *testing.B) {
	benchSizes(b, func(b *testing.B, x *place.Index) {
		rs := make([]place.Request, 16)
		for i := range rs {
			rs[i] = gpus(8)
			rs[i].Workload = autoheal.WorkloadID(fmt.Sprint("rank-", i))
		}
		for b.Loop() {
			if _, ref := x.FitAll(rs); ref != nil {
				b.Fatal(ref.Detail)
			}
		}
	})
}

func BenchmarkMakeRoom(b *testing.B) {
	benchSizes(b, func(b *testing.B, x *place.Index) {
		r := urgent(4)
		r.Need.MemoryMB = 60000 // more than any partly used node has left
		for b.Loop() {
			if _, ref := x.MakeRoom([]place.Request{r}, 10, anyone); ref != nil {
				b.Fatal(ref.Detail)
			}
		}
	})
}

// cpu is how long the process has had a processor: on a machine that others use, that is what a plan costs.
func cpu(b *testing.B) time.Duration {
	b.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// BenchmarkMakeRoomGang plans room for a gang of 64 ranks with 8 GPUs each in a full cluster: each node is held by one of
// what clusters are full of, so that the cheapest must be found among many that would do.
func BenchmarkMakeRoomGang(b *testing.B) {
	for _, c := range []struct {
		name string
		fill func(x *place.Index, i int, nd *autoheal.Node)
	}{
		{"held=singles", func(x *place.Index, i int, nd *autoheal.Node) {
			for g := range 8 {
				w := cheap(fmt.Sprintf("w%d-%d", i, g), i%70, nd.ID, nd.GPUs[g].UUID)
				w.StartedAt = start.Add(time.Duration(i*8+g) * time.Second)
				x.SetWorkload(w)
			}
		}},
		{"held=gangs", func(x *place.Index, i int, nd *autoheal.Node) {
			w := cheap(fmt.Sprintf("w%d", i), i%70, nd.ID)
			for g := range 8 {
				w.GPUs = append(w.GPUs, nd.GPUs[g].UUID)
			}
			w.Gang, w.StartedAt = autoheal.GangID(fmt.Sprint("g", i/16)), start.Add(time.Duration(i)*time.Second)
			x.SetWorkload(w)
		}},
		{"held=mixed", func(x *place.Index, i int, nd *autoheal.Node) {
			for g := 0; g < 8; {
				n := min(1+(i+g)%4, 8-g)
				w := cheap(fmt.Sprintf("w%d-%d", i, g), (i*7+g)%80, nd.ID)
				for ; n > 0; n-- {
					w.GPUs = append(w.GPUs, nd.GPUs[g].UUID)
					g++
				}
				w.Preemptible = i%3 > 0
				x.SetWorkload(w)
			}
		}},
	} {
		b.Run(c.name, func(b *testing.B) {
			x := place.New()
			for i := range 10000 {
				nd := node(fmt.Sprintf("n%05d", i), 8, "NVIDIA H100")
				x.SetNode(nd)
				c.fill(x, i, nd)
			}
			rs := make([]place.Request, 64)
			for i := range rs {
				rs[i] = urgent(8)
				rs[i].Workload = autoheal.WorkloadID(fmt.Sprint("rank-", i))
			}
			b.ReportAllocs()
			before := cpu(b)
			for b.Loop() {
				if _, ref := x.MakeRoom(rs, 10, anyone); ref != nil {
					b.Fatal(ref.Detail)
				}
			}
			b.ReportMetric(float64((cpu(b)-before).Microseconds())/1000/float64(b.N), "cpu-ms/op")
		})
	}
}
