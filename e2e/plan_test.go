package e2e

import "slices"

// room is one package's place in the house.
type room struct {
	floor int
	// beside names rooms of the same floor that this one may import all the same.
	beside []string
	// outside names the modules it may import; those of everyModule go without saying.
	outside []string
}

const (
	urfave      = "github.com/urfave/cli/v2"
	toml        = "github.com/BurntSushi/toml"
	crypto      = "golang.org/x/crypto"
	sftp        = "github.com/pkg/sftp"
	compress    = "github.com/klauspost/compress"
	sys         = "golang.org/x/sys"
	term        = "golang.org/x/term"
	shellescape = "al.essio.dev/pkg/shellescape"
	renameio    = "github.com/google/renameio/v2"
)

// houseplan is docs/architecture.md's picture as data. A package that is not on it fails the floor
// test: a new one is put here, and into the picture, when it comes.
func houseplan() map[string]room {
	return map[string]room{
		"internal/fault":   {floor: 0},
		"internal/sshtest": {floor: 0, beside: []string{"internal/fault"}, outside: []string{crypto, sftp}},

		"internal/event": {floor: 1},
		"internal/wire":  {floor: 1},
		"sync/delta":     {floor: 1},

		"sync":            {floor: 2, outside: []string{compress, sys, renameio}},
		"hooks":           {floor: 2, outside: []string{sys}},
		"templates":       {floor: 2},
		"sshx":            {floor: 2, outside: []string{crypto, sftp, sys, term, shellescape, renameio, "github.com/cenkalti/backoff/v5", "github.com/skeema/knownhosts"}},
		"inventory":       {floor: 2, beside: []string{"templates"}, outside: []string{toml}},
		"internal/load":   {floor: 2},
		"internal/report": {floor: 2},

		"internal/helper": {floor: 3, outside: []string{sys, renameio}},
		"deploy":          {floor: 4, outside: []string{renameio, crypto}},

		"deploy/process": {floor: 5, outside: []string{shellescape}},
		"deploy/balance": {floor: 5, outside: []string{shellescape}},
		"deploy/tune":    {floor: 5, outside: []string{shellescape}},
		"deploy/setup":   {floor: 5},
		"deploy/access":  {floor: 5, outside: []string{crypto, shellescape}},
		"deploy/doctor":  {floor: 6},
		"deploy/overssh": {floor: 6, outside: []string{crypto, sftp, compress, shellescape}},

		"cmd":                 {floor: 7, outside: []string{urfave, term, sys, renameio, shellescape, "github.com/mattn/go-runewidth"}},
		"cmd/godeploy":        {floor: 8},
		"cmd/godeploy-helper": {floor: 8},

		"sync/synctest":   {floor: 9, outside: []string{compress, sys}},
		"e2e/hosts":       {floor: 9, outside: []string{crypto, sys}},
		"e2e/hosts/app":   {floor: 9},
		"e2e/hosts/fleet": {floor: 10, outside: []string{sys}},
		"e2e/mutants":     {floor: 10},
		"e2e/chaos":       {floor: 10},
		"e2e/bench":       {floor: 10, outside: []string{sys}},
		"e2e":             {floor: 11, outside: []string{crypto, sys}},
	}
}

// everyModule is plain plumbing that any room may use.
func everyModule(module string) bool { return module == "golang.org/x/sync" }

// testModule is what only test files import.
func testModule(module string) bool {
	return slices.Contains([]string{"github.com/google/go-cmp", "go.uber.org/goleak", "github.com/rogpeppe/go-internal", "pgregory.net/rapid"}, module)
}

// testRoom is for test files, whatever their floor; of the product only cmd may use sshtest, for
// its demo.
func testRoom(path string) bool { return path == "internal/sshtest" || path == "sync/synctest" }

// prints says who may speak to a terminal.
func prints(path string) bool {
	return path == "cmd" || isMain(path)
}

func isMain(path string) bool {
	return slices.Contains([]string{"cmd/godeploy", "cmd/godeploy-helper", "e2e/hosts/fleet", "e2e/mutants", "e2e/bench"}, path)
}
