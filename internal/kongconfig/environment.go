package kongconfig

import (
	"bufio"
	"fmt"
	"io"
	"strings"
)

// ReadEnvironment reads lines NAME=VALUE. Empty lines and those that begin with # are
// nothing, "export " before a name is left out, and so are quotes around a whole value.
// Errors name the line and never its value.
func ReadEnvironment(r io.Reader) (Environment, error) {
	e := Environment{}
	scanner := bufio.NewScanner(r)
	for n := 1; scanner.Scan(); n++ {
		line := strings.TrimSpace(scanner.Text())
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		name, value, ok := strings.Cut(strings.TrimPrefix(line, "export "), "=")
		name, value = strings.TrimSpace(name), strings.TrimSpace(value)
		if !ok || name == "" {
			return nil, fmt.Errorf("line %d: expected NAME=VALUE, got something else", n)
		}
		if len(value) > 1 && (value[0] == '"' || value[0] == '\'') && value[len(value)-1] == value[0] {
			value = value[1 : len(value)-1]
		}
		e[name] = value
	}
	if err := scanner.Err(); err != nil {
		return nil, fmt.Errorf("reading the environment: %w", err)
	}
	return e, nil
}
