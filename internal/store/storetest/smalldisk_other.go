//go:build !linux

package storetest

import "testing"

// InNamespace skips the test: small disks are made of Linux mount namespaces.
func InNamespace(t *testing.T) bool {
	t.Skip("a small disk needs Linux mount namespaces")
	return false
}

// SmallDisk is not reached: InNamespace skips.
func SmallDisk(t *testing.T, _ int64) string { t.Skip("needs Linux"); return "" }

// MakeReadOnly is not reached: InNamespace skips.
func MakeReadOnly(t *testing.T, _ string) { t.Skip("needs Linux") }

// Fill is not reached: InNamespace skips.
func Fill(t *testing.T, _ string) string { t.Skip("needs Linux"); return "" }
