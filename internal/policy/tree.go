package policy

import (
	"errors"
	"fmt"
	"unicode/utf8"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
	"github.com/goccy/go-yaml/token"
)

// Limits of what is read, so that a hostile or broken file cannot cost more than its size suggests.
const (
	maxBytes = 256 << 10
	maxNodes = 100_000
	maxDepth = 32
	maxOpen  = 256 // brackets; the YAML reader's time grows with the square of their depth
)

type shape string

const (
	isNull  shape = "nothing"
	isText  shape = "text"
	isInt   shape = "a whole number"
	isFloat shape = "a number"
	isBool  shape = "true or false"
	isMap   shape = "a map"
	isList  shape = "a list"
)

// node is one value of a document, with aliases and merges resolved.
type node struct {
	shape     shape
	text      string // of a scalar: as written, without quotes
	line, col int
	entries   []entry
	items     []*node
}

type entry struct {
	key       string
	line, col int
	value     *node
	merged    bool // came from <<, so an own key may say otherwise
}

// treeBuilder turns goccy's syntax tree into nodes and reports what configuration files may not contain.
type treeBuilder struct {
	bad     func(line, col int, detail, remedy string)
	anchors map[string]*node
	count   int
	full    bool
}

// parseTree reads one document; nil means that it is empty or that bad was called.
func parseTree(data []byte, bad func(line, col int, detail, remedy string)) *node {
	if len(data) > maxBytes {
		bad(0, 0, fmt.Sprintf("larger than %s", FormatSize(maxBytes)), "keep only settings in this file")
		return nil
	}
	if !utf8.Valid(data) {
		bad(0, 0, "not UTF-8 text", "save the file as UTF-8")
		return nil
	}
	if line, deep := tooManyOpen(data); deep {
		bad(line, 1, "nested or repeated too much", "write it out flat")
		return nil
	}
	file, err := parseYAML(data)
	if err != nil {
		line, col, msg := describeSyntax(err)
		bad(line, col, "not valid YAML: "+msg, "correct the syntax here")
		return nil
	}
	b := &treeBuilder{bad: bad, anchors: map[string]*node{}}
	var root *node
	docs := 0
	for _, doc := range file.Docs {
		if doc.Body == nil || doc.Body.Type() == ast.CommentType {
			continue
		}
		if _, ok := doc.Body.(*ast.DirectiveNode); ok {
			continue
		}
		docs++
		if docs == 1 {
			root = b.build(doc.Body, 0)
			continue
		}
		line, col := position(startOf(doc.Body))
		if doc.Start != nil {
			line, col = position(doc.Start)
		}
		bad(line, col, "a second document", "keep one document: remove the line --- here")
		break
	}
	return root
}

// tooManyOpen reports the line on which more than maxOpen brackets are open. It also counts those in quotes and comments,
// of which no real file has so many more opening than closing ones.
func tooManyOpen(data []byte) (line int, deep bool) {
	open := 0
	line = 1
	for _, c := range data {
		switch c {
		case '[', '{':
			open++
		case ']', '}':
			open = max(0, open-1)
		case '\n':
			line++
		}
		if open > maxOpen {
			return line, true
		}
	}
	return 0, false
}

// parseYAML calls the parser; a panic inside it is the parser's fault and becomes an error of this input.
func parseYAML(data []byte) (file *ast.File, err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("the YAML reader cannot read this")
		}
	}()
	return parser.ParseBytes(data, 0, parser.AllowDuplicateMapKey())
}

func describeSyntax(err error) (line, col int, msg string) {
	if e, ok := errors.AsType[yaml.Error](err); ok {
		line, col = position(e.GetToken())
		return line, col, e.GetMessage()
	}
	return 0, 0, err.Error()
}

func position(t *token.Token) (line, col int) {
	if t == nil || t.Position == nil {
		return 0, 0
	}
	return t.Position.Line, t.Position.Column
}

// startOf returns the token that people see first; for a block map the parser would name its first colon.
func startOf(n ast.Node) *token.Token {
	switch n := n.(type) {
	case *ast.MappingNode:
		if !n.IsFlowStyle && len(n.Values) > 0 {
			return n.Values[0].Key.GetToken()
		}
	case *ast.MappingValueNode:
		return n.Key.GetToken()
	}
	return n.GetToken()
}

func (b *treeBuilder) build(n ast.Node, depth int) *node {
	line, col := position(startOf(n))
	out := &node{shape: isNull, line: line, col: col}
	if b.count++; b.count > maxNodes || depth > maxDepth {
		b.tooMuch(line, col)
		return out
	}
	switch n := n.(type) {
	case *ast.NullNode, *ast.CommentGroupNode:
	case *ast.StringNode:
		out.shape, out.text = isText, n.Value
	case *ast.LiteralNode:
		out.shape, out.text = isText, n.Value.Value
	case *ast.IntegerNode:
		out.shape, out.text = isInt, n.Token.Value
	case *ast.FloatNode:
		out.shape, out.text = isFloat, n.Token.Value
	case *ast.InfinityNode:
		out.shape, out.text = isFloat, n.Token.Value
	case *ast.NanNode:
		out.shape, out.text = isFloat, n.Token.Value
	case *ast.BoolNode:
		out.shape, out.text = isBool, n.Token.Value
	case *ast.MappingNode:
		out.shape = isMap
		for _, v := range n.Values {
			b.entry(out, v, depth)
		}
	case *ast.MappingValueNode:
		out.shape = isMap
		b.entry(out, n, depth)
	case *ast.SequenceNode:
		out.shape = isList
		for _, v := range n.Values {
			out.items = append(out.items, b.build(v, depth+1))
		}
	case *ast.AnchorNode:
		v := b.build(n.Value, depth+1)
		b.anchors[n.Name.GetToken().Value] = v
		return v
	case *ast.AliasNode:
		return b.alias(n, line, col)
	case *ast.TagNode:
		b.bad(line, col, fmt.Sprintf("the tag %s", n.Start.Value), "write the value without a tag")
	default:
		b.bad(line, col, fmt.Sprintf("%s is not used in this file", n.Type()), "write a plain value")
	}
	return out
}

// alias returns what the anchor holds, at the place where it is used. The content is shared, so repeating aliases of
// aliases costs nothing here; readers walk it, which the count limits.
func (b *treeBuilder) alias(n *ast.AliasNode, line, col int) *node {
	name := n.Value.GetToken().Value
	v, ok := b.anchors[name]
	if !ok {
		b.bad(line, col, fmt.Sprintf("*%s stands for nothing", name), fmt.Sprintf("define &%s above", name))
		return &node{shape: isNull, line: line, col: col}
	}
	if b.full {
		return &node{shape: isNull, line: line, col: col}
	}
	if b.count += v.size(maxNodes); b.count > maxNodes {
		b.tooMuch(line, col)
		return &node{shape: isNull, line: line, col: col}
	}
	c := *v
	c.line, c.col = line, col
	return &c
}

// tooMuch says once that a limit was reached.
func (b *treeBuilder) tooMuch(line, col int) {
	if !b.full {
		b.full = true
		b.bad(line, col, "nested or repeated too much", "write it out flat, with fewer aliases")
	}
}

// size counts the nodes below and including n, and stops counting above limit.
func (n *node) size(limit int) int {
	total := 1
	for _, e := range n.entries {
		if total > limit {
			return total
		}
		total += e.value.size(limit - total)
	}
	for _, i := range n.items {
		if total > limit {
			return total
		}
		total += i.size(limit - total)
	}
	return total
}

func (b *treeBuilder) entry(out *node, v *ast.MappingValueNode, depth int) {
	line, col := position(v.Key.GetToken())
	var value *node
	if v.Value == nil {
		value = &node{shape: isNull, line: line, col: col}
	} else {
		value = b.build(v.Value, depth+1)
	}
	if v.Key.IsMergeKey() {
		b.merge(out, value, line, col)
		return
	}
	key, ok := keyText(v.Key)
	if !ok {
		b.bad(line, col, "a key that is not a word", "use the key's name")
		return
	}
	for i, e := range out.entries {
		if e.key != key {
			continue
		}
		if !e.merged {
			b.bad(line, col, fmt.Sprintf("%s stands here twice, first on line %d", key, e.line), "keep one of them")
			return
		}
		out.entries[i] = entry{key: key, line: line, col: col, value: value}
		return
	}
	out.entries = append(out.entries, entry{key: key, line: line, col: col, value: value})
}

// merge adds the entries of a merged map; keys written in the map itself win, whatever their order.
func (b *treeBuilder) merge(out, from *node, line, col int) {
	maps := []*node{from}
	if from.shape == isList {
		maps = from.items
	}
	for _, m := range maps {
		if m.shape != isMap {
			b.bad(line, col, "<< merges "+string(m.shape), "merge a map, such as <<: *name")
			continue
		}
		for _, e := range m.entries {
			if out.get(e.key) == nil {
				e.merged = true
				out.entries = append(out.entries, e)
			}
		}
	}
}

func (n *node) get(key string) *node {
	for _, e := range n.entries {
		if e.key == key {
			return e.value
		}
	}
	return nil
}

func keyText(k ast.MapKeyNode) (string, bool) {
	switch k := k.(type) {
	case *ast.StringNode:
		return k.Value, true
	case *ast.IntegerNode:
		return k.Token.Value, true
	case *ast.BoolNode, *ast.NullNode, *ast.FloatNode:
		return k.GetToken().Value, true
	case *ast.MappingKeyNode:
		if s, ok := k.Value.(*ast.StringNode); ok {
			return s.Value, true
		}
	}
	return "", false
}
