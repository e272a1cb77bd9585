package drill

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
)

// missingMounts says why no file system can be mounted here, or nothing.
func missingMounts(dir string) string {
	try, err := os.MkdirTemp(dir, "autoheal-mount-")
	if err != nil {
		return "cannot try a mount: " + err.Error()
	}
	defer os.Remove(try)
	if err := mountSmall(try, "1m"); err != nil {
		return "no right to mount a file system: " + err.Error()
	}
	if err := syscall.Unmount(try, 0); err != nil {
		return "cannot unmount a file system: " + err.Error()
	}
	return ""
}

// mountSmall mounts an empty file system in memory of the given size.
func mountSmall(dir, size string) error {
	if err := syscall.Mount("autoheal-drill", dir, "tmpfs", syscall.MS_NODEV|syscall.MS_NOSUID, "mode=0700,size="+size); err != nil {
		return fmt.Errorf("mount %s: %w", dir, err)
	}
	return nil
}

// mountsBelow lists what is mounted below a directory, deepest first.
func mountsBelow(mountinfo, dir string) []string {
	var out []string
	for line := range strings.Lines(mountinfo) {
		f := strings.Fields(line)
		if len(f) < 5 {
			continue
		}
		point := strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`).Replace(f[4])
		if strings.HasPrefix(point, dir+"/") {
			out = append(out, point)
		}
	}
	slices.Sort(out)
	slices.Reverse(out)
	return out
}

// unmount takes away what is mounted in the cluster's directory; nothing of the cluster runs any more.
func (j Janitor) unmount() error {
	var errs []error
	for _, point := range mountsBelow(string(readAll(filepath.Join(j.Proc, "self", "mountinfo"))), j.Dir) {
		if err := syscall.Unmount(point, syscall.MNT_DETACH); err != nil {
			errs = append(errs, fmt.Errorf("unmount %s: %w", point, err))
		}
	}
	return errors.Join(errs...)
}
