package kongconfig

import (
	"errors"
	"fmt"
	"math"
	"regexp"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// Null is a null written in a configuration, which Kong tells from an absent value.
type Null struct{}

type null = Null

// maxYAMLValues bounds what aliases of a document can grow to.
const maxYAMLValues = 100_000

// ParseYAML reads one YAML document into Lua's values: Null{}, bool, float64, string,
// []any and map[string]any. Plain scalars mean what they mean to Kong's YAML 1.1 parser:
// yes and off are booleans, 0123 is octal, 1:30 is 90. Unlike that parser it refuses
// duplicate and non-string keys.
func ParseYAML(text []byte) (any, error) {
	var doc yaml.Node
	if err := yaml.Unmarshal(text, &doc); err != nil {
		return nil, fmt.Errorf("failed parsing declarative configuration: %w", err)
	}
	if doc.Kind != yaml.DocumentNode {
		return nil, errors.New("failed parsing declarative configuration: expected an object")
	}
	p := yamlParser{left: maxYAMLValues, numbers: numberPatterns()}
	value, err := p.value(doc.Content[0])
	if err != nil {
		return nil, fmt.Errorf("failed parsing declarative configuration: %w", err)
	}
	return value, nil
}

type yamlParser struct {
	left    int
	numbers map[int]*regexp.Regexp // by base
	aliases []*yaml.Node           // being followed
}

func (p *yamlParser) value(n *yaml.Node) (any, error) {
	if p.left--; p.left < 0 {
		return nil, fmt.Errorf("line %d: expected at most %d values", n.Line, maxYAMLValues)
	}
	switch n.Kind {
	case yaml.AliasNode:
		for _, a := range p.aliases {
			if a == n.Alias {
				return nil, fmt.Errorf("line %d: expected no alias inside of its own anchor", n.Line)
			}
		}
		p.aliases = append(p.aliases, n.Alias)
		defer func() { p.aliases = p.aliases[:len(p.aliases)-1] }()
		return p.value(n.Alias)
	case yaml.SequenceNode:
		list := []any{}
		for _, c := range n.Content {
			v, err := p.value(c)
			if err != nil {
				return nil, err
			}
			list = append(list, v)
		}
		return list, nil
	case yaml.MappingNode:
		return p.mapping(n)
	default:
		return p.scalar(n)
	}
}

func (p *yamlParser) mapping(n *yaml.Node) (any, error) {
	m := map[string]any{}
	merged := map[string]any{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		key := n.Content[i]
		v, err := p.value(n.Content[i+1])
		if err != nil {
			return nil, err
		}
		if key.Tag == "!!merge" {
			if err := merge(merged, v); err != nil {
				return nil, fmt.Errorf("line %d: %w", key.Line, err)
			}
			continue
		}
		name, err := p.value(key)
		if err != nil {
			return nil, err
		}
		text, ok := name.(string)
		if !ok {
			return nil, fmt.Errorf("line %d: expected the key to be a string, got %q: put it in quotes", key.Line, key.Value)
		}
		if _, dup := m[text]; dup {
			return nil, fmt.Errorf("line %d: expected every key once, got %q again", key.Line, text)
		}
		m[text] = v
	}
	for k, v := range merged {
		if _, ok := m[k]; !ok {
			m[k] = v
		}
	}
	return m, nil
}

// merge takes in the value of a key "<<": a mapping or a list of them, the first wins.
func merge(into map[string]any, value any) error {
	list, ok := value.([]any)
	if !ok {
		list = []any{value}
	}
	for _, v := range list {
		m, ok := v.(map[string]any)
		if !ok {
			return errors.New("expected a mapping to merge")
		}
		for k, v := range m {
			if _, ok := into[k]; !ok {
				into[k] = v
			}
		}
	}
	return nil
}

// scalar resolves a scalar as lyaml does.
func (p *yamlParser) scalar(n *yaml.Node) (any, error) {
	if n.Style&(yaml.SingleQuotedStyle|yaml.DoubleQuotedStyle|yaml.LiteralStyle|yaml.FoldedStyle) != 0 || n.Tag == "!!str" && n.Style&yaml.TaggedStyle != 0 {
		return n.Value, nil
	}
	if n.Style&yaml.TaggedStyle != 0 {
		return nil, fmt.Errorf("line %d: expected no tag, got %s", n.Line, n.Tag)
	}
	switch n.Value {
	case "", "~", "null", "Null", "NULL":
		return null{}, nil
	case "true", "True", "TRUE", "yes", "Yes", "YES", "on", "On", "ON":
		return true, nil
	case "false", "False", "FALSE", "no", "No", "NO", "off", "Off", "OFF":
		return false, nil
	case ".inf", ".Inf", ".INF", "+.inf", "+.Inf", "+.INF":
		return math.Inf(1), nil
	case "-.inf", "-.Inf", "-.INF":
		return math.Inf(-1), nil
	case ".nan", ".NaN", ".NAN":
		return math.NaN(), nil
	}
	if f, ok := p.number(n.Value); ok {
		return f, nil
	}
	return n.Value, nil
}

// numberPatterns are the numbers of YAML 1.1: decimal, octal, hexadecimal, binary,
// sexagesimal; each with underscores between the digits.
func numberPatterns() map[int]*regexp.Regexp {
	return map[int]*regexp.Regexp{
		10: regexp.MustCompile(`^[-+]?(?:0|[1-9][0-9_]*|(?:[0-9][0-9_]*)?\.[0-9_]+(?:[eE][-+]?[0-9]+)?|[0-9][0-9_]*\.?(?:[eE][-+]?[0-9]+))$`),
		8:  regexp.MustCompile(`^[-+]?0o?[0-7_]+$`),
		16: regexp.MustCompile(`^[-+]?0x[0-9a-fA-F_]+$`),
		2:  regexp.MustCompile(`^[-+]?0b[01_]+$`),
		60: regexp.MustCompile(`^[-+]?[0-9]+(?::[0-5]?[0-9])+$`),
	}
}

func (p *yamlParser) number(text string) (float64, bool) {
	negative := strings.HasPrefix(text, "-")
	digits := strings.ReplaceAll(strings.TrimLeft(text, "+-"), "_", "")
	sign := func(f float64) (float64, bool) {
		if negative {
			return -f, true
		}
		return f, true
	}
	if p.numbers[10].MatchString(text) {
		if f, err := strconv.ParseFloat(digits, 64); err == nil {
			return sign(f)
		}
	}
	for base, prefix := range map[int]string{8: "0o", 16: "0x", 2: "0b"} {
		if p.numbers[base].MatchString(text) {
			if n, err := strconv.ParseUint(strings.TrimPrefix(digits, prefix), base, 64); err == nil {
				return sign(float64(n))
			}
		}
	}
	if p.numbers[60].MatchString(text) {
		total := 0.0
		for part := range strings.SplitSeq(digits, ":") {
			n, err := strconv.ParseFloat(part, 64)
			if err != nil {
				return 0, false
			}
			total = total*60 + n
		}
		return sign(total)
	}
	return 0, false
}
