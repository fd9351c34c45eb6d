package hostdeps

import (
	"fmt"
	"slices"
	"strings"
)

// The package state that apt resolves against is not the system's: it holds the
// packages that no Debian can be without (essential and required, and what they
// need), and pretends that those are there which we can do without. So the
// prefix does not depend on what else happens to be installed, a broken system
// resolves as well as a whole one, and the result is the same everywhere.

// leftOut are dependencies that the programs name and do not need when they are
// run from a prefix: maintainers' tools, services, time zones, locales, the
// just-in-time compiler.
func leftOut() []string {
	out := []string{
		"adduser", "ca-certificates", "debconf", "init-system-helpers", "locales", "lsb-base",
		"netbase", "perl", "postgresql-client-common", "postgresql-common", "procps",
		"readline-common", "sensible-utils", "ssl-cert", "systemd", "sysvinit-utils", "tpm-udev",
		"tzdata", "ucf", "udev",
	}
	for version := 11; version <= 30; version++ {
		out = append(out, fmt.Sprintf("libllvm%d", version), fmt.Sprintf("libllvm%dt64", version))
	}
	return out
}

// paragraph is one installed package of dpkg's status file.
type paragraph struct {
	name   string
	text   string
	fields map[string]string
}

// parseStatus reads the installed packages of the given architecture.
func parseStatus(text, architecture string) []paragraph {
	var out []paragraph
	for _, block := range strings.Split(text, "\n\n") {
		p := paragraph{text: strings.TrimSpace(block), fields: map[string]string{}}
		for line := range strings.Lines(block) {
			key, value, ok := strings.Cut(line, ":")
			if ok && !strings.HasPrefix(line, " ") {
				p.fields[key] = strings.TrimSpace(value)
			}
		}
		p.name = p.fields["Package"]
		if p.name == "" || p.fields["Status"] != "install ok installed" {
			continue
		}
		if a := p.fields["Architecture"]; a != architecture && a != "all" {
			continue
		}
		out = append(out, p)
	}
	return out
}

// base returns the packages of the system that every program may rely on.
func base(installed []paragraph) []paragraph {
	provider := map[string][]string{}
	byName := map[string]paragraph{}
	var queue []string
	for _, p := range installed {
		byName[p.name] = p
		for _, virtual := range relations(p.fields["Provides"]) {
			provider[virtual] = append(provider[virtual], p.name)
		}
		if p.fields["Essential"] == "yes" || p.fields["Priority"] == "required" {
			queue = append(queue, p.name)
		}
	}
	kept := map[string]bool{}
	for len(queue) > 0 {
		name := queue[0]
		queue = queue[1:]
		queue = append(queue, provider[name]...)
		p, ok := byName[name]
		if !ok || kept[name] {
			provider[name] = nil // followed once
			continue
		}
		kept[name] = true
		queue = append(queue, relations(p.fields["Depends"])...)
		queue = append(queue, relations(p.fields["Pre-Depends"])...)
	}
	return slices.DeleteFunc(slices.Clone(installed), func(p paragraph) bool { return !kept[p.name] })
}

// relations lists every package that a relation field names, alternatives
// included, without versions and architectures.
func relations(field string) []string {
	return strings.FieldsFunc(stripVersions(field), func(r rune) bool { return r == ',' || r == '|' || r == ' ' })
}

func stripVersions(field string) string {
	var b strings.Builder
	depth := 0
	for part := range strings.FieldsSeq(strings.NewReplacer("(", " ( ", ")", " ) ", "[", " ( ", "]", " ) ", ",", " , ", "|", " | ").Replace(field)) {
		switch part {
		case "(":
			depth++
		case ")":
			depth--
		default:
			if depth == 0 {
				name, _, _ := strings.Cut(part, ":")
				b.WriteString(name + " ")
			}
		}
	}
	return b.String()
}

// resolverStatus returns the status file for apt and the names in it, whose
// packages are never unpacked.
func resolverStatus(status, architecture string) (string, map[string]bool) {
	present := map[string]bool{}
	var b strings.Builder
	for _, p := range base(parseStatus(status, architecture)) {
		present[p.name] = true
		b.WriteString(p.text + "\n\n")
	}
	for _, name := range leftOut() {
		if present[name] {
			continue
		}
		present[name] = true
		fmt.Fprintf(&b, "Package: %s\nStatus: install ok installed\nMaintainer: none\nArchitecture: %s\nMulti-Arch: foreign\nVersion: 9999\n", name, architecture)
		if name == "debconf" {
			b.WriteString("Provides: debconf-2.0\n")
		}
		b.WriteString("Description: left out of the private prefix\n\n")
	}
	return b.String(), present
}
