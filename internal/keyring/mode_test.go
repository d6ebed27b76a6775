package keyring

import (
	"io/fs"
	"testing"
)

// TestExposed: who may read a private key file, by mode, owner and the user running.
func TestExposed(t *testing.T) {
	const root, app = 0, 1000
	for _, tc := range []struct {
		name        string
		perm        fs.FileMode
		owner, user int
		want        bool
	}{
		{"own file", 0o600, app, app, false},
		{"own file, read only", 0o400, app, app, false},
		{"RejectsOwnFileThatAGroupMayRead", 0o640, app, app, true},
		{"secret of Kubernetes with fsGroup", 0o440, root, app, false},
		{"secret of Kubernetes with a mode of its own", 0o640, root, app, false},
		{"RejectsFileOfRootThatAGroupMayWrite", 0o660, root, app, true},
		{"RejectsFileOfRootThatAllMayRead", 0o444, root, app, true},
		{"RejectsGroupWhereRootRuns", 0o640, root, root, true},
		{"RejectsFileOfUnknownOwner", 0o440, -1, app, true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if got := exposed(tc.perm, tc.owner, tc.user); got != tc.want {
				t.Errorf("mode %04o of user %d, read by %d: got exposed %t, want %t", tc.perm, tc.owner, tc.user, got, tc.want)
			}
		})
	}
}
