package scenario

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"

	"github.com/BurntSushi/toml"
)

// Error says what is wrong with a scenario.
type Error struct {
	File string
	Line int    // from 1; 0: unknown
	Key  string // dotted, "" for the whole file
	Err  error  // what is wrong, and what is allowed
}

func (e *Error) Error() string {
	where := e.File
	if e.Line > 0 {
		where += fmt.Sprintf(":%d", e.Line)
	}
	if e.Key != "" {
		where += ": " + e.Key
	}
	return fmt.Sprintf("%s: %v", where, e.Err)
}

func (e *Error) Unwrap() error { return e.Err }

// Read reads a scenario from a file.
func Read(path string) (*Scenario, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		var p *os.PathError
		if errors.As(err, &p) {
			err = p.Err
		}
		return nil, &Error{File: path, Err: fmt.Errorf("the scenario cannot be read: %w; shipped are %s", err, strings.Join(Names(), ", "))}
	}
	return Parse(path, string(b))
}

// Parse reads a scenario. file is its name, for messages and for the files that it names.
func Parse(file, text string) (*Scenario, error) {
	s := &Scenario{Name: strings.TrimSuffix(filepath.Base(file), filepath.Ext(file))}
	meta, err := toml.Decode(text, s)
	if err != nil {
		return nil, decodeError(file, text, err)
	}
	if unknown := meta.Undecoded(); len(unknown) > 0 {
		key := unknown[0]
		return nil, &Error{
			File: file, Line: locate(text, key, 0), Key: key.String(),
			Err: fmt.Errorf("there is no such key; allowed are %s", strings.Join(allowed(key[:len(key)-1]), ", ")),
		}
	}
	c := check{s: s, file: file, text: text, meta: &meta}
	c.all()
	if c.err != nil {
		return nil, c.err
	}
	return s, nil
}

// otherType and noTable are how the decoder says that a value is of another type.
var (
	otherType = regexp.MustCompile(`^toml: line (\d+) \(last key "(.*?)"\): incompatible types: TOML value has type (\S+); destination has type (\S+)`)
	noTable   = regexp.MustCompile(`^toml: line (\d+) \(last key "(.*?)"\): type mismatch for \S+: expected table but found `)
)

// decodeError says what the decoder found. In tables of an array it names the line of the last one that has the key; the line is
// that of the first one with such a value.
func decodeError(file, text string, err error) *Error {
	e := &Error{File: file, Err: err}
	var p toml.ParseError
	if errors.As(err, &p) {
		// The decoder's line is the next one where what is missing should have stood at the end of a line; its offset is right.
		before := text[:min(max(p.Position.Start, 0), len(text))]
		e.Line, e.Key, e.Err = 1+strings.Count(before, "\n"), p.LastKey, errors.New(p.Message)
		if key := splitKey(e.Key); !strings.Contains(strings.Split(text, "\n")[e.Line-1], key[len(key)-1]) {
			e.Key = "" // the last one that was understood, on another line
		}
		if quoted, err := strconv.QuotedPrefix(p.Message); err == nil { // an error of unit.go begins with the value
			e.find(text, func(value string) bool { return strings.HasPrefix(value, quoted) })
		}
	}
	if m := otherType.FindStringSubmatch(err.Error()); m != nil {
		e.Line, _ = strconv.Atoi(m[1])
		e.Key = m[2]
		if m[3] = strings.TrimSuffix(m[3], "[string]any"); m[3] == "map" && m[4] == "slice" {
			e.Err = fmt.Errorf("it is a single table; write [[%s]]", e.Key)
		} else {
			e.Err = fmt.Errorf("it is of type %s; allowed is %s", m[3], m[4])
		}
		e.find(text, func(value string) bool { return typeOf(value) == m[3] })
	}
	if m := noTable.FindStringSubmatch(err.Error()); m != nil {
		e.Line, _ = strconv.Atoi(m[1])
		e.Key, e.Err = m[2], errors.New("it is no table")
	}
	return e
}

// find sets the line to the first of the key whose value is as it says.
func (e *Error) find(text string, is func(value string) bool) {
	lines := strings.Split(text, "\n")
	for i, last := 0, 0; ; i++ {
		n := locate(text, splitKey(e.Key), i)
		if n == 0 || n == last {
			return
		}
		if _, value, ok := strings.Cut(lines[n-1], "="); ok && is(strings.TrimSpace(value)) {
			e.Line = n
			return
		}
		last = n
	}
}

// typeOf returns the type of a value by how it begins, as the decoder calls it.
func typeOf(value string) string {
	switch {
	case value == "":
		return ""
	case value[0] == '"' || value[0] == '\'':
		return "string"
	case value[0] == '[':
		return "slice"
	case value[0] == '{':
		return "map"
	case value[0] == 't' || value[0] == 'f':
		return "boolean"
	case strings.ContainsAny(value, ".en"):
		return "float"
	}
	return "integer"
}

// locate returns the line of a key, or of the table that it would stand in, or 0. index counts the tables of an array, from 0.
func locate(text string, key []string, index int) int {
	var table []string
	seen, best, depth := -1, 0, 0
	for n, line := range strings.Split(text, "\n") {
		line = strings.TrimSpace(line)
		if name, ok := strings.CutPrefix(line, "["); ok && depth == 0 {
			inner, array := strings.CutPrefix(name, "[")
			head, _, _ := strings.Cut(inner, "]")
			table = splitKey(head)
			if array && equal(table, key[:min(1, len(key))]) {
				seen++
			}
			if hasPrefix(key, table) && (seen < 0 || seen == index) {
				best = n + 1
			}
			continue
		}
		if name, value, ok := strings.Cut(line, "="); ok && depth == 0 && !strings.HasPrefix(line, "#") {
			full := append(append([]string{}, table...), splitKey(name)...)
			if hasPrefix(key, full) && (len(table) == 0 || seen < 0 || seen == index) {
				best = n + 1
				if len(full) == len(key) {
					return best
				}
			}
			line = value
		}
		depth = max(depth+strings.Count(line, "[")-strings.Count(line, "]"), 0)
	}
	return best
}

func splitKey(s string) []string {
	parts := strings.Split(strings.TrimSpace(s), ".")
	for i := range parts {
		parts[i] = strings.Trim(strings.TrimSpace(parts[i]), `"'`)
	}
	return parts
}

func equal(a, b []string) bool { return len(a) == len(b) && hasPrefix(a, b) }

func hasPrefix(key, prefix []string) bool {
	if len(prefix) > len(key) {
		return false
	}
	for i := range prefix {
		if key[i] != prefix[i] {
			return false
		}
	}
	return true
}
