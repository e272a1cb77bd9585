package signal

import (
	"bytes"
	"testing"
)

func TestExceptionText(t *testing.T) {
	for _, tt := range []struct{ line, want string }{
		{"ValueError: bad shape", "ValueError: bad shape"},
		{"KeyboardInterrupt", "KeyboardInterrupt"},
		{"KeyError: 12", "KeyError: 12"},
		{"torch.distributed.DistBackendError: NCCL error in: x", "torch.distributed.DistBackendError: NCCL error in: x"},
		{"[rank3]: RuntimeError: x", "RuntimeError: x"},
		{"3: RuntimeError: x", "RuntimeError: x"},
		{"[1,0]<stderr>:RuntimeError: x", "RuntimeError: x"},
		{"(APIServer pid=1) ERROR 05-05 12:36:59 [serving.py:1173] vllm.EngineDeadError: x", "vllm.EngineDeadError: x"},
		{"vllm-1  | ERROR 11-18 18:07:28 engine.py:366] ValueError: x", "ValueError: x"},
		{"2023-04-29 06:01:12.977 [177/train/578 (pid 28936)] [09c5] OSError: x", "OSError: x"},
		{"2023-12-27 11:25:36 | ERROR | stderr | OSError: x", "OSError: x"},
		{"2024-01-01 10:00:00,123 - loader - ERROR - KeyError: 'caption'", "KeyError: 'caption'"},
		{"ERROR:root:KeyError: 'caption'", "KeyError: 'caption'"},
		{"E       ray.exceptions.OutOfMemoryError: x", "ray.exceptions.OutOfMemoryError: x"},
		{"i.pretrain/0 RuntimeError: x", "RuntimeError: x"},
		{"> ValueError: quoted in a report", "ValueError: quoted in a report"},
		{"  what():  CUDA error: x", "what():  CUDA error: x"},
		{"ray.exceptions.RayTaskError(ValueError): x", "ray.exceptions.RayTaskError(ValueError): x"},
		{"[rank1]:[E ProcessGroupNCCL.cpp:916] [Rank 1] NCCL watchdog thread terminated with exception: CUDA error: x", "CUDA error: x"},
	} {
		if got, ok := exceptionText([]byte(tt.line)); !ok || string(got) != tt.want {
			t.Errorf("%q: got %q, %t; want %q", tt.line, got, ok, tt.want)
		}
	}
	for _, line := range []string{
		"", "Error", "Error: see above", "0 errors", "ERROR: it failed", "raise ValueError(\"x\")", "except ValueError:",
		"WARNING:root:ValueError: x", "INFO caught ValueError: x", "[W socket.cpp:1] ValueError: x", "W0301 12:00:00.1 1 a.py:1] ValueError: x",
		"2024-01-01 10:00:00,123 - loader - WARNING - KeyError: 'caption'", "you may see ValueError: x", "`ValueError: x`",
		">>> ValueError: x", "\"message\": \"ValueError: x\"", "- Fixed: ValueError: x", "ValueErrors: 3", "9Error: x",
		"MeanSquaredError: 0.0231", "RootMeanSquaredError: 1.2e-05",
	} {
		if got, ok := exceptionText([]byte(line)); ok {
			t.Errorf("%q is taken for the exception %q", line, got)
		}
	}
}

func TestTracebacks(t *testing.T) {
	c := builtin(t)
	for _, tt := range []struct{ name, text, code string }{
		{"the last of a chain decides", "KeyError: 'a'\n\nDuring handling of the above exception, another exception occurred:\n\nConnectionRefusedError: [Errno 111] Connection refused", "python/connect"},
		{"a cause outside of the program stands", "OSError: [Errno 28] No space left on device\n\nDuring handling of the above exception, another exception occurred:\n\nValueError: b", "disk/no_space"},
		{"a crash that follows does not hide its reason", "ValueError: a\n\nThe above exception was the direct cause of the following exception:\n\nRuntimeError: Engine core initialization failed. See root cause above.", "python/uncaught"},
		{"without a marker the first one decides", "ValueError: a\nConnectionRefusedError: [Errno 111] Connection refused", "python/uncaught"},
		{"an ignored one counts for nothing", "Exception ignored in: <function f at 0x1>\nTraceback (most recent call last):\nAssertionError: can only test a child process", ""},
		{"only the next one is ignored", "Exception ignored in: <function f at 0x1>\nAssertionError: a\nValueError: b", "python/uncaught"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if v := Judge(c.Excerpt([]byte(tt.text), KindWorkload, nil)); v.Code != tt.code {
				t.Errorf("decided by %q, want %q", v.Code, tt.code)
			}
		})
	}
}

// FuzzExceptionText takes any line: what it returns is the end of the line, and taking it again changes nothing.
func FuzzExceptionText(f *testing.F) {
	for _, r := range builtin(f).Rules() {
		if !r.Exception {
			continue
		}
		for _, s := range r.Samples {
			f.Add([]byte(s.Text))
		}
		for _, s := range r.Lookalikes {
			f.Add([]byte(s))
		}
	}
	f.Fuzz(func(t *testing.T, line []byte) {
		text, ok := exceptionText(line)
		if !ok {
			return
		}
		if !bytes.HasSuffix(line, text) {
			t.Fatalf("%q is not the end of %q", text, line)
		}
		if isException(text) {
			if again, ok := exceptionText(text); !ok || !bytes.HasSuffix(text, again) {
				t.Fatalf("%q, taken again, is %q", text, again)
			}
		}
	})
}

// FuzzCulprit has a gang say anything.
func FuzzCulprit(f *testing.F) {
	c := builtin(f)
	f.Add(2, 4, timeouts("0", "1")+progressLine("2", "5", "5", "4"))
	f.Add(0, 0, "[Rank 0]: Rank 3 failed to pass monitoredBarrier in 600000 ms")
	f.Fuzz(func(t *testing.T, members, ranks int, text string) {
		members, ranks = members%64, ranks%512
		got := c.Culprit(gangOf(c, members, ranks, []said{{member: 0, text: text}, {member: 1, from: 9, text: text}}))
		if got.Confidence < 0 || got.Confidence > 1 || got.Role == RoleNobody && (got.Member != -1 || got.Confidence != 0) {
			t.Fatalf("%+v", got)
		}
	})
}
