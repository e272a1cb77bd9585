package signal

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"slices"
)

// maxWindow is how many bytes of a literal the scanner looks for. Longer windows skip further and are rarer; shorter
// literals make the window of all of them shorter.
const maxWindow = 8

// minLiteral is the length below which a literal would stop the scanner at every other word. minKernelWord and
// minWorkloadWord are what the built-in rules keep to, by the logs in which they count: a few short words slow the search
// for all.
const (
	minLiteral      = 4
	minKernelWord   = maxWindow
	minWorkloadWord = 6
)

// hashBits sizes the table of skips: 32 KiB, so that it stays in the nearest cache.
const hashBits = 15

// block is how many bytes decide about one skip.
const block = 3

// literals finds many strings at once. It is the algorithm of Wu and Manber: of every literal one window of equal length
// is taken, and a table says for each block of three bytes how far the end of the nearest window can be at least. In text
// without windows it reads one block in about every five bytes, and no line is ever split that has no hit.
type literals struct {
	texts  [][]byte
	window int
	skips  [1 << hashBits]uint8
	// windows are sorted by the hash of their last block; heads says where those of a hash begin, plus one.
	windows []windowOf
	heads   [1 << hashBits]uint16
}

// windowOf is the window of one literal.
type windowOf struct {
	hash   uint32
	id     int // index into texts
	offset int // of the window in the text
	bytes  []byte
}

func hashBlock(b uint32) uint32 { return (b & 0xffffff) * 0x9e3779b1 >> (32 - hashBits) }

// newLiterals takes texts of at least minLiteral bytes; their indexes are the ids of hits.
func newLiterals(texts [][]byte) *literals {
	l := &literals{texts: texts, window: maxWindow}
	for _, t := range texts {
		l.window = min(l.window, len(t))
	}
	far := l.window - block + 1
	for i := range l.skips {
		l.skips[i] = uint8(far)
	}
	for id, t := range texts {
		off := rarestWindow(t, l.window)
		win := t[off : off+l.window]
		for end := block; end <= l.window; end++ {
			h := hashBlock(load3(win[end-block:]))
			l.skips[h] = min(l.skips[h], uint8(l.window-end))
		}
		h := hashBlock(load3(win[l.window-block:]))
		l.windows = append(l.windows, windowOf{hash: h, id: id, offset: off, bytes: win})
	}
	slices.SortStableFunc(l.windows, func(a, b windowOf) int { return cmp.Compare(a.hash, b.hash) })
	for i, w := range slices.Backward(l.windows) {
		l.heads[w.hash] = uint16(i + 1)
	}
	return l
}

func load3(b []byte) uint32 { return uint32(b[0]) | uint32(b[1])<<8 | uint32(b[2])<<16 }

// lane is how much of a text one of two searches takes that go on side by side.
const lane = 4 << 10

// next returns the position in text of the first literal that begins at or after from, and its id; -1 if there is none.
// A literal that begins before from is not looked for.
func (l *literals) next(text []byte, from int) (at, id int) {
	if len(l.texts) == 0 {
		return -1, 0
	}
	i := from + l.window - block // begin of the block that ends the window
	for i+2*lane+4 <= len(text) {
		if at, id := l.inLanes(text, i, from); at >= 0 {
			return at, id
		}
		i += 2 * lane
	}
	at, id, i = l.inLane(text, i, len(text)-3, from)
	if at >= 0 {
		return at, id
	}
	for ; i+block <= len(text); i++ { // the last block, of which no four bytes can be read
		h := hashBlock(load3(text[i:]))
		if l.skips[h] > 0 {
			continue
		}
		if at, id := l.verify(text, i, from, h); at >= 0 {
			return at, id
		}
	}
	return -1, 0
}

// inLane looks for windows whose last block begins in text from i to before end, and returns where it stopped.
func (l *literals) inLane(text []byte, i, end, from int) (at, id, stop int) {
	for i < end {
		h := hashBlock(binary.LittleEndian.Uint32(text[i:]))
		if skip := l.skips[h]; skip > 0 {
			i += int(skip)
			continue
		}
		if at, id := l.verify(text, i, from, h); at >= 0 {
			return at, id, i
		}
		i++
	}
	return -1, 0, i
}

// inLanes is inLane over two lanes at once. What bounds the search is the wait for one look into the table before the
// next can begin; two searches that do not depend on each other share that wait.
func (l *literals) inLanes(text []byte, i, from int) (at, id int) {
	a, b := i, i+lane
	middle, end := b, b+lane
	for a < middle && b < end {
		ha, hb := hashBlock(binary.LittleEndian.Uint32(text[a:])), hashBlock(binary.LittleEndian.Uint32(text[b:]))
		stepA, stepB := int(l.skips[ha]), int(l.skips[hb])
		if stepA == 0 {
			if at, id := l.verify(text, a, from, ha); at >= 0 {
				return at, id
			}
			stepA = 1
		}
		if stepB == 0 {
			if at, id := l.verify(text, b, from, hb); at >= 0 {
				return l.earlier(text, a, middle, from, at, id)
			}
			stepB = 1
		}
		a, b = a+stepA, b+stepB
	}
	if at, id, _ := l.inLane(text, a, middle, from); at >= 0 {
		return at, id
	}
	at, id, _ = l.inLane(text, b, end, from)
	return at, id
}

// earlier returns what the rest of the first lane holds, else what the second lane found.
func (l *literals) earlier(text []byte, a, middle, from, at, id int) (int, int) {
	if first, firstID, _ := l.inLane(text, a, middle, from); first >= 0 {
		return first, firstID
	}
	return at, id
}

// verify looks for a literal whose window ends with the block at i.
func (l *literals) verify(text []byte, i, from int, h uint32) (at, id int) {
	begin := i + block - l.window
	for _, w := range l.endingWith(h) {
		at := begin - w.offset
		if at >= from && string(text[begin:begin+l.window]) == string(w.bytes) && bytes.HasPrefix(text[at:], l.texts[w.id]) {
			return at, w.id
		}
	}
	return -1, 0
}

// endingWith returns the windows whose last block has a hash, of which there are few.
func (l *literals) endingWith(h uint32) []windowOf {
	first := int(l.heads[h]) - 1
	if first < 0 {
		return nil
	}
	end := first + 1
	for end < len(l.windows) && l.windows[end].hash == h {
		end++
	}
	return l.windows[first:end]
}

// all appends the ids of all literals that occur in text, each once, in no particular order.
func (l *literals) all(text []byte, ids []int) []int {
	if len(l.texts) == 0 {
		return ids
	}
	for i := l.window - block; i+block <= len(text); {
		h := hashBlock(load3(text[i:]))
		if skip := l.skips[h]; skip > 0 {
			i += int(skip)
			continue
		}
		begin := i + block - l.window
		for _, w := range l.endingWith(h) {
			at := begin - w.offset
			if at >= 0 && bytes.HasPrefix(text[at:], l.texts[w.id]) {
				ids = addID(ids, w.id)
			}
		}
		i++
	}
	return ids
}

func addID(ids []int, id int) []int {
	if slices.Contains(ids, id) {
		return ids
	}
	return append(ids, id)
}

// rarestWindow returns where the window of n bytes begins that is likely to be rarest in logs.
func rarestWindow(t []byte, n int) int {
	best, bestCost := 0, 0
	for off := 0; off+n <= len(t); off++ {
		cost := 0
		for _, c := range t[off : off+n] {
			cost += commonness(c)
		}
		for _, c := range t[off+n-block : off+n] { // what is seen first decides how often the rest is looked at
			cost += 2 * commonness(c)
		}
		if off == 0 || cost < bestCost {
			best, bestCost = off, cost
		}
	}
	return best
}

// commonness weighs a byte by how often logs have it; only the order matters.
func commonness(c byte) int {
	switch {
	case c == ' ':
		return 9
	case bytes.IndexByte([]byte("etaoinsr"), c) >= 0:
		return 10
	case c >= 'a' && c <= 'z':
		return 7
	case c >= '0' && c <= '9', c == ':', c == '.', c == '_', c == '-', c == '/':
		return 6
	case c >= 'A' && c <= 'Z':
		return 3
	default:
		return 1
	}
}
