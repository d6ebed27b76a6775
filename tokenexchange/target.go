package tokenexchange

import (
	"cmp"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// Target is an API that a [Transport] may call, and the token it gets.
type Target struct {
	// URL is what the URLs of its requests begin with: scheme, host, port if it is not that
	// of the scheme, and perhaps a path, which ends at a slash of the request's path. https,
	// or http on this machine. Required. Of several that fit, the longest path counts. A host
	// is written in ASCII (xn--...): of other letters, two names can be taken for one.
	URL string
	// Audience, Resource and Scope are those of the [Request] that is made for it. Audience
	// or Resource is required.
	Audience []string
	Resource []string
	Scope    []string
}

// target is a Target as requests are compared with it.
type target struct {
	scheme, host, path string // path without the slash at its end
	request            Request
}

func newTarget(t Target, allowHTTP bool) (*target, error) {
	u, err := url.Parse(t.URL)
	switch {
	case err != nil || u.Hostname() == "" || u.Scheme != "https" && u.Scheme != "http" || u.Opaque != "":
		return nil, errors.New("URL: expected the https URL that the API's URLs begin with, got something else")
	case hostOf(u) == "":
		return nil, errors.New("URL: expected a host in ASCII (xn--...), got other characters")
	case u.User != nil || u.RawQuery != "" || u.ForceQuery || strings.Contains(t.URL, "#"):
		return nil, errors.New("URL: expected a URL without user information, query and fragment")
	case u.Scheme == "http" && !isLoopback(u.Hostname()) && !allowHTTP:
		return nil, fmt.Errorf("URL: expected https, got http to %q, which is not this machine; use https, or set InsecureAllowHTTP if that network is trusted", u.Host)
	case hasDots(u.Path):
		return nil, errors.New("URL: expected a path without . and .. segments")
	case len(t.Audience)+len(t.Resource) == 0:
		return nil, errors.New("either Audience or Resource: expected whom the token is for, got neither")
	}
	out := &target{scheme: u.Scheme, host: hostOf(u), path: strings.TrimRight(u.EscapedPath(), "/")}
	out.request = Request{Audience: slices.Clone(t.Audience), Resource: slices.Clone(t.Resource), Scope: slices.Clone(t.Scope)}
	// The rest of the request is checked as it will be, before any call needs it.
	probe := out.request
	probe.SubjectToken = "probe"
	if _, err := probe.Form(); err != nil {
		return nil, err
	}
	return out, nil
}

// targets finds what a request is for.
type targets []*target // longest path first

func newTargets(list []Target, allowHTTP bool) (targets, error) {
	var out targets
	var problems []error
	problem := func(format string, args ...any) { problems = append(problems, fmt.Errorf(format, args...)) }
	if len(list) == 0 {
		problem("Targets: expected at least one, got none")
	}
	for i, t := range list {
		parsed, err := newTarget(t, allowHTTP)
		if err != nil {
			problem("Targets[%d]: %w", i, err)
			continue
		}
		for _, other := range out {
			if parsed.scheme == other.scheme && parsed.host == other.host && parsed.path == other.path {
				problem("Targets[%d]: URL: expected each once, got %q twice", i, t.URL)
			}
		}
		out = append(out, parsed)
	}
	slices.SortStableFunc(out, func(a, b *target) int { return cmp.Compare(len(b.path), len(a.path)) })
	return out, errors.Join(problems...)
}

// find returns the target of a request, nil when it is for none of them. Where the request
// goes and what it says of that must agree: a server tells its sites apart by the Host
// field, and by the path as it reads it.
func (ts targets) find(r *http.Request) *target {
	host := hostOf(r.URL)
	if r.Host != "" && r.Host != r.URL.Host && hostOf(&url.URL{Scheme: r.URL.Scheme, Host: r.Host}) != host {
		return nil
	}
	if r.URL.Opaque != "" || hasDots(r.URL.Path) {
		return nil
	}
	path := r.URL.EscapedPath()
	for _, t := range ts {
		if t.scheme != r.URL.Scheme || t.host != host {
			continue
		}
		if rest, ok := strings.CutPrefix(path, t.path); ok && (rest == "" || rest[0] == '/') {
			return t
		}
	}
	return nil
}

// hostOf is the host and port that a URL leads to, in one spelling. It is "", which no
// target has, for a host that is not ASCII: net/http asks for its punycode name, whatever
// it looks like in lower case.
func hostOf(u *url.URL) string {
	for _, b := range []byte(u.Host) {
		if b >= utf8.RuneSelf {
			return ""
		}
	}
	host := strings.ToLower(u.Host)
	port := ":443"
	if u.Scheme == "http" {
		port = ":80"
	}
	return strings.TrimSuffix(host, port)
}

// decodings bounds how often a path that was decoded once is decoded again.
const decodings = 3

// hasDots reports whether a path has . or .. segments, which a server may resolve to
// another path than the one that was compared. The path is decoded, since %2e is a dot for
// many, and a backslash is a slash for some. One that is encoded over and over counts as
// having them: nobody means it, and to get to the end of it would take time.
func hasDots(path string) bool {
	if !strings.Contains(path, ".") && !strings.Contains(path, "%") {
		return false
	}
	for range decodings {
		decoded := unescape(path)
		if decoded == path {
			return dotSegment(path)
		}
		path = decoded
	}
	return true
}

// unescape decodes what is percent-encoded and leaves a percent sign that is only that.
func unescape(s string) string {
	if !strings.Contains(s, "%") {
		return s
	}
	out := make([]byte, 0, len(s))
	for i := 0; i < len(s); i++ {
		if s[i] == '%' && i+2 < len(s) {
			if b, err := strconv.ParseUint(s[i+1:i+3], 16, 8); err == nil {
				out = append(out, byte(b))
				i += 2
				continue
			}
		}
		out = append(out, s[i])
	}
	return string(out)
}

func dotSegment(path string) bool {
	for segment := range strings.FieldsFuncSeq(path, func(r rune) bool { return r == '/' || r == '\\' }) {
		segment, _, _ = strings.Cut(segment, ";") // parameters, which some strip first
		if segment == "." || segment == ".." {
			return true
		}
	}
	return false
}
