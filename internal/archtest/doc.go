// Package archtest owns the rules about the shape of this repository: which package may import which, what the pure
// packages must not touch, which calls are kept to the edges, how long a function or a file may be, and what a package's
// documentation must say.
//
// The rules are data and functions over a parsed Tree, so that the same code that judges the repository is run over
// planted violations by its own tests. Only its tests use it; no other package may import it. It never changes a file,
// never resolves or downloads a dependency, and reads nothing outside the tree that it is given.
package archtest
