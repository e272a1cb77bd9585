package cgroup

import (
	"maps"
	"testing"
)

const (
	hybrid = `23 1 0:21 / / rw - ext4 /dev/vda rw
32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw,relatime - cgroup cgroup rw,cpu,cpuacct
35 31 0:32 / /sys/fs/cgroup/memory rw,relatime shared:9 - cgroup cgroup rw,memory
37 31 0:34 / /sys/fs/cgroup/freezer rw,relatime - cgroup cgroup rw,freezer
39 31 0:36 / /sys/fs/cgroup/pids rw,relatime - cgroup cgroup rw,pids
40 31 0:37 / /sys/fs/cgroup/systemd rw,relatime - cgroup cgroup rw,name=systemd
41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw
`
	unified = `23 1 0:21 / / rw - ext4 /dev/vda rw
30 23 0:26 / /sys/fs/cg\040roup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate
`
)

func TestDetect(t *testing.T) {
	none := func(string) string { return "" }
	v2 := func(path string) string {
		if path == "/sys/fs/cg roup/cgroup.controllers" {
			return "cpuset cpu io memory pids\n"
		}
		return ""
	}
	h := DetectFrom(hybrid, "8:pids:/\n4:memory:/box/1\n0::/\n", none)
	want := map[string]string{
		"cpu": "/sys/fs/cgroup/cpu,cpuacct", "memory": "/sys/fs/cgroup/memory", "freezer": "/sys/fs/cgroup/freezer", "pids": "/sys/fs/cgroup/pids",
	}
	if h.Version != V1 || !maps.Equal(h.Mounts, want) || h.Own["memory"] != "/box/1" {
		t.Errorf("hybrid: %+v", h)
	}
	h = DetectFrom(unified, "0::/user.slice/a.service\n", v2)
	if h.Version != V2 || h.Mounts[""] != "/sys/fs/cg roup" || h.Own[""] != "/user.slice/a.service" {
		t.Errorf("unified: %+v", h)
	}
	h = DetectFrom("32 31 0:29 /docker/ab /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n", "4:memory:/docker/ab\n", none)
	if h.Own["memory"] != "/" {
		t.Errorf("inside a container: %+v", h)
	}
	for name, h := range map[string]Host{
		"no controllers": DetectFrom(unified, "0::/\n", none),
		"nothing":        DetectFrom("23 1 0:21 / / rw - ext4 /dev/vda rw\n", "", none),
		"damaged":        DetectFrom("- cgroup\n - cgroup2\nx - cgroup y memory\n", "::", none),
	} {
		if h.Version != None || h.Reason == "" {
			t.Errorf("%s: %+v", name, h)
		}
	}
}

func FuzzDetect(f *testing.F) {
	f.Add(hybrid, "4:memory:/box\n")
	f.Add(unified, "0::/\n")
	f.Fuzz(func(t *testing.T, mounts, own string) {
		h := DetectFrom(mounts, own, func(string) string { return "memory" })
		if (h.Version == None) != (h.Reason != "") {
			t.Errorf("%+v", h)
		}
	})
}
