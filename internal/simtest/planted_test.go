package simtest

import (
	"cmp"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// Mistakes are planted into the sources without a trace in them: a test binary is built
// with go's -overlay, in which each mistake's old text is replaced. The new text says
// Planted("name") for what is different when the mistake is switched on, so that one
// binary has them all.

// mistake is one or several of the names that plants are switched on by.
type mistake struct {
	names string // separated by commas
	// The scenario that finds it, with the least bounds that do, and a part of what is
	// wrong then.
	scenario string
	budget   Budget
	says     string
	// harmless says which second fence there is, if nothing finds it. It is proven by
	// taking that away as well, by the names in without: then it is found as above, and
	// with these alone it is not.
	harmless string
	without  string
}

// root is the folder of the module.
var root = filepath.Join("..", "..")

// planted is the file that package uia gets in the binary.
const planted = `package uia

import (
	"os"
	"slices"
	"strings"
)

var plantedNames = strings.Split(os.Getenv("UIA_PLANTED"), ",")

// Planted reports whether the mistake is switched on.
func Planted(name string) bool { return slices.Contains(plantedNames, name) }
`

// overlay returns the sources with all plants in them.
func overlay() (map[string]string, error) {
	files := map[string]string{}
	var lost []error
	for _, p := range plants {
		text, ok := files[p.file]
		if !ok {
			b, err := os.ReadFile(filepath.Join(root, p.file))
			if err != nil {
				return nil, err
			}
			text = string(b)
		}
		if n := strings.Count(text, p.old); n != 1 {
			lost = append(lost, fmt.Errorf("the text of a plant stands %d times in %s: where does it belong now?\n%s", n, p.file, p.old))
		}
		files[p.file] = strings.Replace(text, p.old, p.new, 1)
	}
	return files, errors.Join(lost...)
}

var plantedCall = regexp.MustCompile(`Planted\("([^"]+)"\)`)

// TestMistakesHaveTheirPlaces says when the sources have changed so that a mistake
// must be planted elsewhere, and which mistakes nobody hunts.
func TestMistakesHaveTheirPlaces(t *testing.T) {
	if _, err := overlay(); err != nil {
		t.Error(err)
	}
	there, hunted := map[string]bool{}, map[string]bool{}
	for _, p := range plants {
		calls := plantedCall.FindAllStringSubmatch(p.new, -1)
		for _, c := range calls {
			there[c[1]] = true
		}
		if len(calls) == 0 && !strings.Contains(p.new, "resolve(") {
			t.Errorf("nothing switches it on: %s", p.new)
		}
	}
	for _, m := range mistakes {
		for name := range strings.SplitSeq(m.names+","+m.without, ",") {
			hunted[name] = true
			if !there[name] && name != "" {
				t.Errorf("nobody plants %q", name)
			}
		}
	}
	for name := range there {
		if !hunted[name] {
			t.Errorf("nobody hunts %q", name)
		}
	}
}

// build builds the test binary with the mistakes.
func build(t *testing.T) string {
	t.Helper()
	files, err := overlay()
	if err != nil {
		t.Fatal(err)
	}
	files["planted.go"] = planted
	dir := t.TempDir()
	replace := map[string]string{}
	for name, text := range files {
		at := filepath.Join(dir, strings.ReplaceAll(name, "/", "_"))
		if err := os.WriteFile(at, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		abs, err := filepath.Abs(filepath.Join(root, name))
		if err != nil {
			t.Fatal(err)
		}
		replace[abs] = at
	}
	list, err := json.Marshal(map[string]any{"Replace": replace})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "overlay.json"), list, 0o600); err != nil {
		t.Fatal(err)
	}
	binary := cmp.Or(*keptFlag, filepath.Join(dir, "simtest.test"))
	out, err := exec.CommandContext(t.Context(), "go", "test", "-c", "-overlay", filepath.Join(dir, "overlay.json"), "-o", binary, ".").CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return binary
}

// search explores a scenario with mistakes, and returns what it finds; "" if nothing.
func search(t *testing.T, binary, names, scenario string, b Budget, more ...string) string {
	t.Helper()
	args := append([]string{"-test.run=^TestEverySchedule$", "-first", "-scenario=" + scenario, "-budget=" + b.String()}, more...)
	cmd := exec.CommandContext(t.Context(), binary, args...)
	cmd.Env = append(os.Environ(), "UIA_PLANTED="+names)
	out, err := cmd.CombinedOutput()
	switch {
	case err == nil:
		return ""
	case !strings.Contains(string(out), "-schedule "):
		t.Fatalf("%v\n%s", err, out)
	}
	return string(out)
}

var (
	keptFlag = flag.String("binary", "", "where to leave the `binary` with the mistakes, which UIA_PLANTED switches on")
	hunted   = flag.String("hunt", "", "the `names` of mistakes to look for, one hunt behind each semicolon, in the scenarios and with the bounds of the other flags")
)

// TestMistakesAreFound plants each mistake, and finds it; or shows by which second
// fence it does no harm.
func TestMistakesAreFound(t *testing.T) {
	binary := build(t)
	if *hunted != "" {
		for names := range strings.SplitSeq(*hunted, ";") {
			hunt(t, binary, names)
		}
		return
	}
	for _, m := range mistakes {
		t.Run(m.names, func(t *testing.T) {
			names := m.names
			if m.harmless != "" {
				for _, alone := range []string{m.names, m.without} {
					if out := search(t, binary, alone, m.scenario, m.budget); out != "" {
						t.Fatalf("%q is harmless by itself, because %s. No:\n%s", alone, m.harmless, out)
					}
				}
				names += "," + m.without
			}
			switch out := search(t, binary, names, m.scenario, m.budget); {
			case out == "":
				t.Fatalf("%q is not found", names)
			case !strings.Contains(out, m.says):
				t.Errorf("%q is found, but not because of %q:\n%s", names, m.says, out)
			}
		})
	}
}

// hunt looks for mistakes in all scenarios with growing bounds.
func hunt(t *testing.T, binary, names string) {
	t.Helper()
	for bounds := range strings.SplitSeq(cmp.Or(*budgetFlag, "P0F0C0,P1F0C0,P0F1C0,P0F0C1,P2F0C0,P1F0C1,P0F1C1,P1F1C0,P0F2C0,P2F0C1,P1F1C1"), ",") {
		b, err := ParseBudget(bounds)
		if err != nil {
			t.Fatal(err)
		}
		if out := search(t, binary, names, *onlyScenario, b, fmt.Sprint("-most=", cmp.Or(*mostFlag, 2000))); out != "" {
			t.Logf("%s: found at %v\n%s", names, b, out)
			return
		}
	}
	t.Errorf("nothing finds %s", names)
}
