package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"strings"

	"go.yaml.in/yaml/v3"
)

// generate returns a commented configuration. The basic keys come first, with the values
// that are given; all others follow, commented out, with what holds without them.
func generate(given map[string]string) ([]byte, error) {
	var out bytes.Buffer
	out.WriteString("# The configuration of uiagateway: registration with tokens in front of a Matrix homeserver.\n" +
		"# File names are relative to the folder in which the gateway is started.\n")
	for _, s := range settings {
		if s.basic {
			if err := s.write(&out, given); err != nil {
				return nil, err
			}
		}
	}
	out.WriteString("\n# Everything from here on can be left out.\n")
	group := ""
	for _, s := range settings {
		if s.basic {
			continue
		}
		if prefix, _, nested := strings.Cut(s.key, "."); nested && prefix != group {
			group = prefix
			fmt.Fprintf(&out, "\n%s:\n", prefix)
		}
		if err := s.write(&out, given); err != nil {
			return nil, err
		}
	}
	for key := range given {
		return nil, fmt.Errorf("there is no key %s%s", key, didYouMean(key))
	}
	return out.Bytes(), nil
}

// write writes the key, and takes its value out of given.
func (s setting) write(out *bytes.Buffer, given map[string]string) error {
	indent, name := "", s.key
	if _, inner, nested := strings.Cut(s.key, "."); nested {
		indent, name = "  ", inner
	}
	fmt.Fprintf(out, "\n%s# %s\n", indent, strings.ReplaceAll(s.doc, "\n", "\n"+indent+"# "))
	if s.secret {
		fmt.Fprintf(out, "%s# It can also be in a file of its own (%s_file: NAME), or in the environment (%s).\n", indent, name, s.environment())
	}
	value, there := given[s.key]
	if there {
		delete(given, s.key)
		value = s.quoted(value)
	}
	mark := ""
	if !there {
		value = s.preset
		if value == "" {
			value = s.example
		}
		if !s.basic {
			mark = "# "
		}
		if value == "" && s.list {
			value = "[]"
		}
	}
	if s.secret && s.basic && value == "" {
		mark = "# "
	}
	fmt.Fprintln(out, strings.TrimRight(fmt.Sprintf("%s%s%s: %s", indent, mark, name, value), " "))
	return nil
}

// quoted writes a value as YAML: a list if the key has one, whose elements are separated
// by commas.
func (s setting) quoted(value string) string {
	if !s.list {
		return marshal(&yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: value})
	}
	var items []string
	for item := range strings.SplitSeq(value, ",") {
		if item = strings.TrimSpace(item); item != "" {
			items = append(items, item)
		}
	}
	return yamlList(items)
}

// marshal writes a node on one line.
func marshal(n *yaml.Node) string {
	out, err := yaml.Marshal(n)
	if err != nil {
		panic(err) // it is a text, or a list of texts
	}
	return strings.TrimSpace(string(out))
}

// writeNew makes a file that only its owner can read. It overwrites nothing.
func writeNew(name string, text []byte) error {
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if errors.Is(err, os.ErrExist) {
		return fmt.Errorf("%s is there already, and is not overwritten", name)
	}
	if err != nil {
		return err
	}
	_, err = f.Write(text)
	return errors.Join(err, f.Close())
}
