package command

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/alecthomas/kong"
)

var (
	docLink = regexp.MustCompile(`\]\(([^)#:]+)(?:#[^)]*)?\)`)
	docFlag = regexp.MustCompile(`(?:^|[^-\w])--([a-z][a-z-]+)`)
	docTest = regexp.MustCompile(`\b(?:Test|Fuzz|Benchmark)[A-Z]\w*`)
	docMake = regexp.MustCompile("(?:`|^|sudo )make ([a-z-]+)")
	docFile = regexp.MustCompile("`((?:bpf|cmd|command|datapath|examples|heuristic|internal|props|quicadapt|relay|scripts)/[\\w./-]*\\w)`")
)

// TestDocs: README lists every document, and what the documents name is there: files, flags, tests and make's targets.
func TestDocs(t *testing.T) {
	const root = ".."
	docs, err := filepath.Glob(filepath.Join(root, "docs", "*.md"))
	if err != nil || len(docs) == 0 {
		t.Fatalf("documents: %v, %v", docs, err)
	}
	readme, err := os.ReadFile(filepath.Join(root, "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range docs {
		if name := "docs/" + filepath.Base(d); !strings.Contains(string(readme), "| ["+name+"]("+name+")") {
			t.Errorf("README's table has no %s", name)
		}
	}
	flags, tests, targets := flagNames(t), testNames(t, root), makeTargets(t, root)
	for _, d := range append(docs, filepath.Join(root, "README.md"), filepath.Join(root, "CONTRIBUTING.md")) {
		text, err := os.ReadFile(d)
		if err != nil {
			t.Fatal(err)
		}
		for i, line := range strings.Split(string(text), "\n") {
			missing := func(what, name string, there bool) {
				if !there {
					t.Errorf("%s:%d: there is no %s %s", filepath.Base(d), i+1, what, name)
				}
			}
			for _, m := range docLink.FindAllStringSubmatch(line, -1) {
				missing("file", m[1], exists(filepath.Dir(d), m[1]))
			}
			for _, m := range docFile.FindAllStringSubmatch(line, -1) {
				base, last, _ := strings.Cut(filepath.Base(m[1]), ".") // a file, or a name in a package
				name := filepath.Join(filepath.Dir(m[1]), base)
				missing("file", m[1], exists(root, m[1]) || exists(root, name) && last != "")
			}
			for _, m := range docFlag.FindAllStringSubmatch(line, -1) {
				missing("flag", "--"+m[1], flags[m[1]])
			}
			for _, name := range docTest.FindAllString(line, -1) {
				missing("test", name, strings.Contains(tests, "\nfunc "+name)) // also of part of a name, for -run
			}
			for _, m := range docMake.FindAllStringSubmatch(line, -1) {
				missing("target of make", m[1], strings.Contains(targets, "\n"+m[1]+":"))
			}
		}
	}
}

func exists(dir, name string) bool {
	_, err := os.Stat(filepath.Join(dir, filepath.FromSlash(name)))
	return err == nil
}

// flagNames are the flags of all commands.
func flagNames(t *testing.T) map[string]bool {
	k, err := kong.New(&cli{}, kongVars())
	if err != nil {
		t.Fatal(err)
	}
	flags := map[string]bool{}
	nodes := []*kong.Node{k.Model.Node}
	for len(nodes) > 0 {
		n := nodes[0]
		nodes = append(nodes[1:], n.Children...)
		for _, f := range n.Flags {
			flags[f.Name] = true
		}
	}
	return flags
}

// testNames is the text of all files with tests.
func testNames(t *testing.T, root string) string {
	var all strings.Builder
	err := filepath.WalkDir(root, func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(path, "_test.go") {
			return err
		}
		b, err := os.ReadFile(path)
		all.WriteString("\n")
		all.Write(b)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all.String()
}

func makeTargets(t *testing.T, root string) string {
	b, err := os.ReadFile(filepath.Join(root, "Makefile"))
	if err != nil {
		t.Fatal(err)
	}
	return "\n" + string(b)
}
