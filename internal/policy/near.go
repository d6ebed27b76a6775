package policy

// Bounds of the search for what was meant. Names as long as these are not mistyped but
// made, and the effort is that of all candidates.
const (
	maxNear       = 64 // bytes of the name
	maxCandidates = 200
)

// meant is shown by near.
type meant struct {
	name string
	of   []string
}

func (m meant) String() string { return near(m.name, m.of) }

// near says "; did you mean 'x'?" for the candidate that differs least from name, when it
// differs little, and nothing otherwise.
func near(name string, candidates []string) string {
	best, least := "", min(2, len(name)/3)+1
	if len(name) > maxNear {
		return ""
	}
	for _, c := range candidates[:min(len(candidates), maxCandidates)] {
		if d := distance(name, c, least); d < least {
			best, least = c, d
		}
	}
	if best == "" {
		return ""
	}
	return "; did you mean " + quote(best) + "?"
}

// distance is how many bytes have to be put in, taken out or changed to make b of a
// (Levenshtein), or at least most as soon as it cannot be less.
func distance(a, b string, most int) int {
	if len(a)-len(b) >= most || len(b)-len(a) >= most {
		return most
	}
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		least := row[0]
		for j := range len(b) {
			change := diagonal
			if a[i] != b[j] {
				change++
			}
			diagonal = row[j+1]
			row[j+1] = min(change, row[j]+1, row[j+1]+1)
			least = min(least, row[j+1])
		}
		if least >= most {
			return most
		}
	}
	return row[len(b)]
}
