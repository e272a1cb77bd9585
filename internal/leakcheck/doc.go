// Package leakcheck owns the question that ends every test run: is anything left of it on this machine?
//
// A run marks what it starts: processes inherit an environment variable, control groups carry a prefix in their name,
// files and mounts lie below one folder. A Scope names one run, and its Scan lists what still bears the marks. Tests of
// any package may import it (internal/archtest lists it as test support); product code may not. It never removes what it
// finds: a leak is a bug of the code that left it, and cleaning up would hide it.
package leakcheck
