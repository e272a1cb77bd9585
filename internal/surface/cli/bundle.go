package cli

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"encoding/json"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"slices"

	"autoheal.dev/autoheal/internal/tool"
	"github.com/spf13/cobra"
)

func (a *app) bundleCmd() *cobra.Command {
	cmd := &cobra.Command{
		Use: "bundle INCIDENT", Short: "Pack everything about one incident into an archive for whoever looks into it",
		Long: "Pack everything about one incident into a tar.gz: post-mortem, incident and account as JSON, its records of the journal,\n" +
			"what was captured before a repair, the settings in force, the nodes and specifications concerned, the version.\n" +
			"Values of environment variables and secrets of the configuration are not in it.",
		Example: "  autoheal bundle inc-000017\n  autoheal bundle inc-000017 -o case-4711.tar.gz\n  autoheal bundle inc-000017 -o - | tar tz",
		Args:    cobra.ExactArgs(1),
	}
	// It takes the place of the output format: what this command writes has one form.
	file := cmd.Flags().StringP("output", "o", "", "file to write, - for the standard output (default autoheal-INCIDENT.tar.gz)")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if slices.Contains([]string{"table", "json", "yaml"}, *file) {
			return usagef("-o %s: here it names the file to write; 'autoheal tool call bundle_get' prints JSON, and ./%s is a file", *file, *file)
		}
		s, err := a.openAs(cmd, "table")
		if err != nil {
			return err
		}
		defer s.client.Close()
		return s.bundle(args[0], *file)
	}
	return cmd
}

func (s *session) bundle(incident, file string) error {
	if err := s.noWatch(); err != nil {
		return err
	}
	raw, err := s.raw("bundle_get", tool.IncidentIn{IncidentID: incident})
	if err != nil {
		return err
	}
	var v tool.BundleOut
	if err := json.Unmarshal(raw, &v); err != nil {
		return fmt.Errorf("read answer: %w", err)
	}
	packed, err := pack(v)
	if err != nil {
		return fmt.Errorf("pack %s: %w", v.Name, err)
	}
	if file == "-" {
		_, err := s.Stdout.Write(packed)
		return err
	}
	if file == "" {
		file = filepath.Base(v.Name) + ".tar.gz"
	}
	if err := writeWhole(file, packed); err != nil {
		return err
	}
	p := &page{now: s.Now()}
	p.line("%s: %d files, %d bytes", file, len(v.Files), len(packed))
	for _, m := range v.Missing {
		p.line("not in it: %s", m)
	}
	_, err = s.Stdout.Write(p.buf.Bytes())
	return err
}

// pack makes a tar.gz: the same bundle gives the same bytes. Names are the healer's; what would lead out of the folder is
// refused all the same.
func pack(v tool.BundleOut) ([]byte, error) {
	var b bytes.Buffer
	zip := gzip.NewWriter(&b)
	t := tar.NewWriter(zip)
	for _, f := range v.Files {
		if name := path.Clean(f.Name); name != f.Name || name == "." || !filepath.IsLocal(name) {
			return nil, fmt.Errorf("%q is no name of a file in a bundle", f.Name)
		}
		h := &tar.Header{Name: path.Join(path.Base(v.Name), f.Name), Mode: 0o600, Size: int64(len(f.Text)), ModTime: v.At, Format: tar.FormatPAX}
		if err := t.WriteHeader(h); err != nil {
			return nil, err
		}
		if _, err := t.Write([]byte(f.Text)); err != nil {
			return nil, err
		}
	}
	if err := t.Close(); err != nil {
		return nil, err
	}
	if err := zip.Close(); err != nil {
		return nil, err
	}
	return b.Bytes(), nil
}

// writeWhole writes a file whole or not at all, for its owner only: it quotes logs.
func writeWhole(file string, data []byte) error {
	tmp, err := os.CreateTemp(filepath.Dir(file), ".autoheal-bundle-*")
	if err != nil {
		return fmt.Errorf("write %s: %w", file, err)
	}
	_, err = tmp.Write(data)
	if cerr := tmp.Close(); err == nil {
		err = cerr
	}
	if err == nil {
		err = os.Rename(tmp.Name(), file)
	}
	if err != nil {
		_ = os.Remove(tmp.Name())
		return fmt.Errorf("write %s: %w", file, err)
	}
	return nil
}
