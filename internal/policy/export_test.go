package policy

import (
	"fmt"
	"strings"
)

// KeyTable is the table of keys as docs/policy.md has it.
func KeyTable() string {
	var b strings.Builder
	b.WriteString("| key | value | default | what it says |\n|---|---|---|---|\n")
	writeKeys(&b, "", fileShape())
	return b.String()
}

func writeKeys(b *strings.Builder, path string, s *shape) {
	switch s.kind {
	case kindObject:
		for _, f := range s.fields {
			at := f.name
			if path != "" {
				at = path + "." + f.name
			}
			writeKey(b, at, f)
			writeKeys(b, at, f.shape)
		}
	case kindMapping:
		if s.of.kind == kindObject {
			writeKeys(b, path+".NAME", s.of)
		}
	case kindList:
		if s.of.kind == kindObject {
			writeKeys(b, path+"[]", s.of)
		}
	}
}

func writeKey(b *strings.Builder, path string, f field) {
	kind := map[kind]string{kindObject: "mapping", kindMapping: "mapping by name", kindDuration: "duration", kindInteger: "number", kindBoolean: "true or false", kindText: "text"}[f.kind]
	switch {
	case f.kind == kindList:
		kind = "list"
		if f.of.kind == kindText {
			kind = "list of texts"
		}
	case f.kind == kindMapping && f.of.kind == kindText:
		kind = "mapping of texts"
	case f.kind == kindMapping && f.of.kind == kindList:
		kind = "mapping of lists"
	case f.kind == kindDuration:
		kind = "duration, " + short(f.from) + " to " + short(f.to)
	case f.kind == kindInteger:
		kind = f.want()
	case len(f.enum) > 0:
		kind = "`" + strings.Join(f.enum, "` or `") + "`"
	}
	preset := ""
	switch {
	case f.required:
		preset = "required"
	case f.preset != "":
		preset = "`" + f.preset + "`"
	}
	fmt.Fprintf(b, "| `%s` | %s | %s | %s |\n", path, kind, preset, f.doc)
}

// Structure checks a file by its description alone: what a JSON Schema can say.
func Structure(data []byte) error {
	found := new(findings)
	if root := document(data, found); root != nil {
		read(root, found)
	}
	return found.err()
}
