package archtest

import "strings"

// edge is one import of non-test code: to is a folder of this module, or the path of a foreign package.
type edge struct {
	to    string
	local bool
	file  *File
	line  int
}

// graph has the imports of each package of this module in the order of its files.
type graph map[string][]edge

func (t *Tree) graph() graph {
	g := graph{}
	for _, f := range t.Files {
		if f.Test {
			continue
		}
		for _, imp := range f.imports() {
			to, local := t.local(imp.path)
			if !local {
				to = imp.path
			}
			g[f.Package] = append(g[f.Package], edge{to, local, f, t.line(imp.spec)})
		}
	}
	return g
}

// chain returns a shortest chain of imports that begins at pkg and ends with an edge that matches, or nil.
func (g graph) chain(pkg string, match func(edge) bool) []edge {
	seen := map[string]bool{pkg: true}
	type step struct {
		pkg  string
		path []edge
	}
	for queue := []step{{pkg: pkg}}; len(queue) > 0; queue = queue[1:] {
		for _, e := range g[queue[0].pkg] {
			path := append(queue[0].path[:len(queue[0].path):len(queue[0].path)], e)
			if match(e) {
				return path
			}
			if e.local && !seen[e.to] {
				seen[e.to] = true
				queue = append(queue, step{e.to, path})
			}
		}
	}
	return nil
}

// route writes a chain as it is read aloud.
func route(from string, chain []edge) string {
	var b strings.Builder
	b.WriteString(folder(from))
	for _, e := range chain {
		b.WriteString(" -> " + folder(e.to))
	}
	return b.String()
}
