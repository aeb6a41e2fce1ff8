package main

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"github.com/matrix-uia/uia/signup"
	"go.yaml.in/yaml/v3"
)

// mistake is something wrong in a configuration.
type mistake struct {
	line int // in the file; 0 if it stands in no line
	text string
}

// mistakes are all that is wrong, in the order of the lines.
type mistakes []mistake

// Error lists the mistakes, one a line.
func (m mistakes) Error() string {
	var out strings.Builder
	for i, one := range m {
		if i > 0 {
			out.WriteByte('\n')
		}
		if one.line > 0 {
			fmt.Fprintf(&out, "line %d: ", one.line)
		}
		out.WriteString(one.text)
	}
	return out.String()
}

// load reads the configuration in a file. It returns all mistakes at once, as mistakes.
// warnings are about what works and should be otherwise.
func load(name string) (c *config, warnings []string, err error) {
	text, err := os.ReadFile(name)
	if err != nil {
		return nil, nil, err
	}
	l := &loading{config: &config{}}
	l.read(text)
	if l.inline && readableByOthers(name) {
		l.warn(name + " has secrets in it, and every user of this machine can read it: chmod 600 " + name)
	}
	if l.bad != nil {
		slices.SortStableFunc(l.bad, func(a, b mistake) int { return cmp.Compare(a.line, b.line) })
		for i := range l.bad {
			l.bad[i].text = strings.TrimSpace(l.bad[i].text)
		}
		return nil, l.warnings, l.bad
	}
	return l.config, l.warnings, nil
}

// readableByOthers reports whether everybody on the machine can read the file.
func readableByOthers(name string) bool {
	info, err := os.Stat(name)
	return err == nil && info.Mode().Perm()&0o004 != 0
}

// loading is a configuration that is being read.
type loading struct {
	*config
	values   map[string]*yaml.Node // by key: what the file says
	inline   bool                  // a secret stands in the file
	warnings []string
	bad      mistakes
}

func (l *loading) warn(text string) { l.warnings = append(l.warnings, text) }

func (l *loading) wrong(line int, format string, args ...any) {
	l.bad = append(l.bad, mistake{line, fmt.Sprintf(format, args...)})
}

// read reads the text of the file.
func (l *loading) read(text []byte) {
	l.values = map[string]*yaml.Node{}
	var doc yaml.Node
	decoder := yaml.NewDecoder(bytes.NewReader(text))
	if err := decoder.Decode(&doc); err != nil && !errors.Is(err, io.EOF) {
		l.bad = append(l.bad, yamlMistake(err))
		return
	}
	if err := decoder.Decode(new(yaml.Node)); !errors.Is(err, io.EOF) {
		l.wrong(0, "there is more than one document in the file")
		return
	}
	if len(doc.Content) > 0 && doc.Content[0].Tag != "!!null" {
		l.collect(doc.Content[0], "")
	}
	for _, s := range settings {
		l.set(s)
	}
	l.together()
}

// yamlMistake takes the line out of an error of the YAML decoder.
func yamlMistake(err error) mistake {
	m := mistake{text: strings.TrimPrefix(err.Error(), "yaml: ")}
	if _, scanErr := fmt.Sscanf(m.text, "line %d:", &m.line); scanErr == nil {
		_, m.text, _ = strings.Cut(m.text, ": ")
	}
	return m
}

// collect takes the keys of a mapping into values, and reports those that there are not.
func (l *loading) collect(n *yaml.Node, prefix string) {
	if n = resolved(n); n.Kind != yaml.MappingNode {
		l.wrong(n.Line, "%s has to be a mapping, with lines such as \"key: value\"", cmp.Or(strings.TrimSuffix(prefix, "."), "the file"))
		return
	}
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, value := n.Content[i], n.Content[i+1]
		name := prefix + key.Value
		switch {
		case l.values[name] != nil:
			l.wrong(key.Line, "%s is there twice", name)
		case isGroup(name) && value.Tag == "!!null": // all its keys are commented out
		case isGroup(name):
			l.collect(value, name+".")
		case !isKey(name):
			l.wrong(key.Line, "there is no key %s%s", name, didYouMean(name))
		default:
			l.values[name] = resolved(value)
		}
	}
}

// resolved follows an alias.
func resolved(n *yaml.Node) *yaml.Node {
	for n.Kind == yaml.AliasNode {
		n = n.Alias
	}
	return n
}

// keys are all names that a value can have.
func keys() (out []string) {
	for _, s := range settings {
		out = append(out, s.key)
		if s.secret {
			out = append(out, s.key+"_file")
		}
	}
	return out
}

func isKey(name string) bool { return slices.Contains(keys(), name) }

// isGroup reports whether the name is that of a mapping of keys.
func isGroup(name string) bool {
	return slices.ContainsFunc(keys(), func(key string) bool { return strings.HasPrefix(key, name+".") })
}

// didYouMean names a key that differs from name only in hyphens, capitals or the end.
func didYouMean(name string) string {
	plain := func(s string) string { return strings.ToLower(strings.NewReplacer("-", "", "_", "").Replace(s)) }
	for _, key := range keys() {
		if a, b := plain(key), plain(name); strings.HasPrefix(a, b) || strings.HasPrefix(b, a) {
			return ": is it " + key + "?"
		}
	}
	return ""
}

// set reads the value of a setting, wherever it is.
func (l *loading) set(s setting) {
	value, from := l.values[s.key], s.key
	if s.secret {
		var ok bool
		if value, from, ok = l.secretOf(s, value); !ok {
			return
		}
	}
	if value == nil {
		if s.required {
			l.wrong(0, "%s is missing", s.key)
			return
		}
		if s.preset == "" {
			return
		}
		var doc yaml.Node
		if err := yaml.Unmarshal([]byte(s.preset), &doc); err != nil {
			panic(err) // a preset is a constant, which every test reads
		}
		value = doc.Content[0]
	}
	err := s.read(l.config, value)
	if many, ok := errors.AsType[mistakes](err); ok {
		for _, one := range many {
			l.wrong(one.line, "%s: %s", from, one.text)
		}
		return
	}
	if err != nil {
		l.wrong(value.Line, "%s: %v", from, err)
	}
}

// secretOf returns the value of a secret: the one in the file, or that of the file that
// the key with _file names, or that of the environment. It is not ok if one of these
// could not be read, or if there is more than one.
func (l *loading) secretOf(s setting, inline *yaml.Node) (value *yaml.Node, from string, ok bool) {
	value, from, found := inline, s.key, 0
	if inline != nil {
		// The name of a SQLite file is no secret; a PostgreSQL URL can have a password.
		l.inline = l.inline || s.key != "database" || strings.Contains(inline.Value, "://")
		found++
	}
	if n := l.values[s.key+"_file"]; n != nil {
		found++
		from = s.key + "_file"
		text, err := l.secretFile(n)
		if err != nil {
			l.wrong(n.Line, "%s: %v", from, err)
			return nil, from, false
		}
		value = &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: text, Line: n.Line}
	}
	if text, there := os.LookupEnv(s.environment()); there {
		found++
		from = "the environment variable " + s.environment()
		value = &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: strings.TrimSpace(text)}
	}
	if found > 1 {
		l.wrong(lineOf(inline, l.values[s.key+"_file"]), "%s is there more than once: in the file, as %s_file, or as %s in the environment", s.key, s.key, s.environment())
		return nil, from, false
	}
	return value, from, true
}

func lineOf(nodes ...*yaml.Node) int {
	for _, n := range nodes {
		if n != nil {
			return n.Line
		}
	}
	return 0
}

// secretFile reads the secret in the file that n names, without white space around it.
func (l *loading) secretFile(n *yaml.Node) (string, error) {
	name, err := scalar(n)
	if err != nil {
		return "", err
	}
	f, err := os.Open(name)
	if err != nil {
		return "", err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, 64<<10))
	if err != nil {
		return "", err
	}
	if readableByOthers(name) {
		l.warn("every user of this machine can read the secret in " + name + ": chmod 600 " + name)
	}
	return strings.TrimSpace(string(text)), nil
}

// together checks what concerns several keys.
func (l *loading) together() {
	given := func(key string) bool {
		_, env := os.LookupEnv(setting{key: key}.environment())
		return env || l.values[key] != nil || l.values[key+"_file"] != nil
	}
	ways := 0
	for _, there := range []bool{given("registration_shared_secret"), given("registration_token"), l.open} {
		if there {
			ways++
		}
	}
	if ways != 1 {
		l.wrong(0, "exactly one of registration_shared_secret, registration_token and registration_open has to be there: it is how the gateway makes accounts")
	}
	for _, admin := range l.admins {
		if _, server, _ := strings.Cut(admin, ":"); l.serverName != "" && server != l.serverName {
			l.wrong(lineOf(l.values["admins"]), "admins: %s is no user of %s", admin, l.serverName)
		}
	}
	if l.inviteLink == "" && l.publicURL != "" && l.signup {
		l.inviteLink = signup.InviteURL(l.publicURL + signup.Path)
	}
}
