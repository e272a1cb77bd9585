package source

import (
	"bytes"
	"fmt"
	"io"
	"math/rand/v2"
	"sync"
	"testing"

	"autoheal.dev/autoheal/internal/signal"
)

// healthyKernelLines are templates of what a GPU node logs while nothing is wrong; %d is filled with numbers.
var healthyKernelLines = []string{
	"[%d.%06d] audit: type=1400 audit(%d.%d:114): apparmor=\"ALLOWED\" operation=\"open\" class=\"file\" profile=\"cri\" name=\"/etc/hosts\" pid=%d comm=\"kubelet\"",
	"[%d.%06d] br-1a2b: port 3(veth%d) entered forwarding state",
	"[%d.%06d] IPv6: ADDRCONF(NETDEV_CHANGE): veth%d: link becomes ready",
	"[%d.%06d] mlx5_core 0000:ab:00.0 mlx5_5: Port: 1 Link INIT %d",
	"[%d.%06d] mlx5_core 0000:5c:00.0: mlx5_pcie_print_link_status: %d Gb/s available PCIe bandwidth (32.0 GT/s PCIe x16 link)",
	"[%d.%06d] EXT4-fs (nvme%dn1p2): mounted filesystem with ordered data mode. Quota mode: none.",
	"[%d.%06d] XFS (dm-%d): Ending clean mount",
	"[%d.%06d] nvidia-nvlink: Nvlink Core is being initialized, major device number %d",
	"[%d.%06d] NVRM: loading NVIDIA UNIX Open Kernel Module for x86_64  570.158.%d  Release Build",
	"[%d.%06d] nvidia 0000:%02x:00.0: enabling device (0000 -> 0002)",
	"[%d.%06d] perf: interrupt took too long (%d > 2500), lowering kernel.perf_event_max_sample_rate to 78000",
	"[%d.%06d] docker0: port 2(veth%d) entered disabled state",
	"[%d.%06d] device veth%d entered promiscuous mode",
	"[%d.%06d] systemd-journald[%d]: Received client request to flush runtime journal.",
	"[%d.%06d] nfs: Deprecated parameter 'intr' on mount %d",
	"[%d.%06d] overlayfs: upper fs does not support tmpfile %d, falling back.",
	"[%d.%06d] cgroup: cgroup2: unknown option \"nsdelegate\" %d",
	"[%d.%06d] eth0: renamed from veth%d",
	"[%d.%06d] TCP: request_sock_TCP: Possible SYN flooding on port %d. Sending cookies.  Check SNMP counters.",
	"[%d.%06d] pcieport 0000:00:%02x.0: AER: Corrected error received: 0000:00:01.0",
	"[%d.%06d] workqueue: ib_cache_event_task [ib_core] hogged CPU for >10000us %d times, consider switching to WQ_UNBOUND",
	"[%d.%06d] amdgpu 0000:c5:00.0: amdgpu: ring gfx_0.0.%d uses VM inv eng 0 on hub 0",
}

// healthyKernelLog returns about size bytes of such lines, the same for every run.
func healthyKernelLog(size int) []byte {
	rng := rand.New(rand.NewPCG(1, 2))
	var b bytes.Buffer
	for b.Len() < size {
		t := healthyKernelLines[rng.IntN(len(healthyKernelLines))]
		args := []any{rng.IntN(1e6), rng.IntN(1e6), rng.IntN(65536), rng.IntN(1000), rng.IntN(100000)}
		fmt.Fprintf(&b, t, args[:bytes.Count([]byte(t), []byte("%"))]...)
		b.WriteByte('\n')
	}
	return b.Bytes()
}

// workloadLog mixes short progress lines, lines of 64 KiB and binary bytes.
func workloadLog(size int) []byte {
	rng := rand.New(rand.NewPCG(3, 4))
	var b bytes.Buffer
	for b.Len() < size {
		switch rng.IntN(400) {
		case 0:
			for range 64 << 10 / 16 {
				fmt.Fprintf(&b, "token%011d", rng.IntN(1e9))
			}
		case 1:
			for range 4096 {
				b.WriteByte(byte(rng.IntN(256)))
			}
		default:
			fmt.Fprintf(&b, "2026-03-01 12:00:%02d,%03d INFO trainer.py:%d step %d loss %.4f lr 3.0e-04 tokens/s %d grad_norm %.3f mem 71.%dGiB",
				rng.IntN(60), rng.IntN(1000), rng.IntN(900), rng.IntN(1e6), rng.Float64()*3, rng.IntN(1e6), rng.Float64(), rng.IntN(10))
		}
		b.WriteByte('\n')
	}
	return b.Bytes()
}

// repeated reads a block several times.
func repeated(block []byte, times int) io.Reader {
	readers := make([]io.Reader, times)
	for i := range readers {
		readers[i] = bytes.NewReader(block)
	}
	return io.MultiReader(readers...)
}

// once compiles the catalogue for all tests of this package.
var once = sync.OnceValues(signal.Builtin)

func catalogue(tb testing.TB) *signal.Catalogue {
	tb.Helper()
	c, err := once()
	if err != nil {
		tb.Fatal(err)
	}
	return c
}

// BenchmarkKernelLog reads a healthy kernel log of 200 MB with the whole catalogue.
func BenchmarkKernelLog(b *testing.B) {
	scan(b, healthyKernelLog(20<<20), 10, signal.KindKernel)
}

// BenchmarkWorkloadLog reads a workload's log with lines of 64 KiB and binary bytes.
func BenchmarkWorkloadLog(b *testing.B) {
	scan(b, workloadLog(20<<20), 10, signal.KindWorkload)
}

func scan(b *testing.B, block []byte, times int, kind signal.Kind) {
	c := catalogue(b)
	b.SetBytes(int64(len(block) * times))
	b.ReportAllocs()
	for b.Loop() {
		hits := 0
		s, err := Scan(repeated(block, times), c, kind, signal.NewStream(c, nil), func(signal.Found) { hits++ })
		if err != nil || s.Bytes != int64(len(block)*times) {
			b.Fatal(s, err)
		}
		if hits > 0 {
			b.Fatalf("%d lines of a healthy log mean something", hits)
		}
	}
}

// BenchmarkMemoryFloor reads the same 200 MB and counts the lines: what memory and the reader alone allow.
func BenchmarkMemoryFloor(b *testing.B) {
	block := healthyKernelLog(20 << 20)
	b.SetBytes(int64(len(block) * 10))
	buf := make([]byte, chunk)
	for b.Loop() {
		r, n := repeated(block, 10), 0
		for {
			k, err := r.Read(buf)
			n += bytes.Count(buf[:k], []byte{'\n'})
			if err != nil {
				break
			}
		}
		if n == 0 {
			b.Fatal("no lines")
		}
	}
}

// BenchmarkNaive asks every rule about every line, as one would without the search for words.
func BenchmarkNaive(b *testing.B) {
	for _, log := range []struct {
		name string
		text []byte
		kind signal.Kind
	}{{"KernelLog", healthyKernelLog(256 << 10), signal.KindKernel}, {"WorkloadLog", workloadLog(256 << 10), signal.KindWorkload}} {
		b.Run(log.name, func(b *testing.B) {
			c := catalogue(b)
			b.SetBytes(int64(len(log.text)))
			for b.Loop() {
				for line := range bytes.Lines(log.text) {
					if m, ok := c.MatchNaively(signal.Unframe(line).Message, log.kind); ok {
						b.Fatalf("%s means %s", line, m.Code)
					}
				}
			}
		})
	}
}

// BenchmarkStorm reads 800,000 lines of which 29 differ, and keeps them in a book.
func BenchmarkStorm(b *testing.B) {
	var block bytes.Buffer
	for i := range 8000 {
		fmt.Fprintf(&block, "[%d.%06d] NVRM: Xid (PCI:0000:%02x:00): 95, pid='<unknown>', name=<unknown>, Uncontained: LTC TAG (0x%d,0x0)\n", i, i, i%8, i%29)
	}
	c := catalogue(b)
	b.SetBytes(int64(block.Len() * 100))
	b.ReportAllocs()
	for b.Loop() {
		book := signal.NewBook(signal.BookOptions{})
		if _, err := Scan(repeated(block.Bytes(), 100), c, signal.KindKernel, signal.NewStream(c, nil), func(f signal.Found) { book.Add(f) }); err != nil {
			b.Fatal(err)
		}
		if n := len(book.Entries()); n > 29*8 {
			b.Fatalf("%d signals", n)
		}
	}
}
