package cmd

import (
	"embed"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"godeploy/internal/fault"
	"godeploy/internal/sshtest"
	"godeploy/inventory"

	"al.essio.dev/pkg/shellescape"
)

//go:embed demodata
var demoData embed.FS

const demoServers = 4

// demoFleet is four servers in this process: SSH servers that run real commands, each with a folder as
// its home and an address of its own on loopback.
type demoFleet struct {
	dir      string // all of it, for its owner alone, without links in the path
	network  string // 127.7.N
	ssh, app int    // ports, the same on every address
	servers  []*sshtest.Server
	line     *lifeline
}

func (f *demoFleet) project() string      { return filepath.Join(f.dir, "project") }
func (f *demoFleet) name(i int) string    { return "web" + strconv.Itoa(i+1) }
func (f *demoFleet) address(i int) string { return f.network + "." + strconv.Itoa(i+1) }
func (f *demoFleet) home(i int) string    { return filepath.Join(f.dir, "fleet", f.name(i)) }
func (f *demoFleet) weight(i int) int     { return []int{10, 20, 20, 20}[i] } // as in demodata/godeploy.toml
func (f *demoFleet) listen(i int) string {
	return net.JoinHostPort(f.address(i), strconv.Itoa(f.app))
}

// newDemoFleet makes the folder, starts the servers and writes the project with its godeploy.toml. The
// caller closes the fleet.
func newDemoFleet() (_ *demoFleet, err error) {
	dir, err := os.MkdirTemp("", "godeploy-demo-") // 0700: nobody else gets at the key
	if err != nil {
		return nil, err
	}
	f := &demoFleet{dir: dir}
	defer func() {
		if err != nil {
			err = errors.Join(err, f.close(false))
		}
	}()
	if f.dir, err = filepath.EvalSymlinks(dir); err != nil { // /proc shows folders without links
		return nil, err
	}
	options, err := f.folders()
	if err != nil {
		return nil, err
	}
	if err := f.boot(options); err != nil {
		return nil, err
	}
	if f.line, err = newLifeline(f.network + ".100:0"); err != nil {
		return nil, err
	}
	if err := f.writeProject(); err != nil {
		return nil, err
	}
	return f, f.fits()
}

// fits refuses a temporary folder that no app can lie in, before anything is shown.
func (f *demoFleet) fits() error {
	_, err := inventory.Load(filepath.Join(f.project(), "godeploy.toml"))
	if err == nil {
		return nil
	}
	return fault.New(fault.Usage, "the demo cannot work in %s", f.dir).Fact("%v", err).
		Hint("the path of an app has no spaces and the like; TMPDIR says where temporary folders are made").
		Try("TMPDIR=/tmp godeploy demo")
}

// folders makes the homes and the operator's key, which is the only one that opens the servers.
func (f *demoFleet) folders() ([]sshtest.Options, error) {
	for _, dir := range []string{f.project(), filepath.Join(f.dir, "bin"), filepath.Join(f.dir, "home")} {
		if err := os.Mkdir(dir, 0o755); err != nil {
			return nil, err
		}
	}
	program, err := os.Executable()
	if err != nil {
		return nil, err
	}
	if err := os.Symlink(program, filepath.Join(f.dir, "bin", "godeploy")); err != nil {
		return nil, err
	}
	key, err := sshtest.NewKeyFile(filepath.Join(f.dir, "id_ed25519"), "godeploy demo")
	if err != nil {
		return nil, err
	}
	all := make([]sshtest.Options, demoServers)
	for i := range all {
		// With the app's folder there the lock lies in it. Else it would lie in a place of the machine,
		// and these four servers are one machine.
		if err := os.MkdirAll(filepath.Join(f.home(i), "shop"), 0o755); err != nil {
			return nil, err
		}
		host, err := sshtest.NewKey()
		if err != nil {
			return nil, err
		}
		all[i].Home = f.home(i)
		all[i].HostKeys = append(all[i].HostKeys, host)
		all[i].Authorized = append(all[i].Authorized, key.PublicKey())
	}
	return all, nil
}

// boot starts the servers on the first network that is free. Who has its SSH port has the network: two
// demos at once get one each. The other ports are for machines where somebody listens on every address.
func (f *demoFleet) boot(options []sshtest.Options) error {
	var last error
	for _, port := range []int{2222, 2022, 22022} {
		for n := range 16 {
			f.network, f.ssh = "127.7."+strconv.Itoa(n), port
			if last = f.bootOn(options); last == nil {
				return f.findAppPort()
			}
		}
	}
	return fault.New(fault.Internal, "the demo finds no free addresses").
		Hint("it needs 127.7.0.1 to 127.7.0.4, which Linux has on loopback").Wrap(last)
}

func (f *demoFleet) bootOn(options []sshtest.Options) error {
	for i, o := range options {
		o.Addr = net.JoinHostPort(f.address(i), strconv.Itoa(f.ssh))
		server, err := sshtest.Start(o)
		if err != nil {
			return errors.Join(err, f.shut())
		}
		f.servers = append(f.servers, server)
	}
	return nil
}

// shut closes the SSH servers.
func (f *demoFleet) shut() error {
	var all []error
	for _, s := range f.servers {
		all = append(all, s.Close())
		s.Kill() // what ran for a connection that has gone
	}
	f.servers = nil
	return errors.Join(all...)
}

// findAppPort picks a port that is free on every address.
func (f *demoFleet) findAppPort() error {
	var last error
	for _, port := range []int{8080, 8000, 18080, 28080} {
		f.app = port
		if last = f.portFree(); last == nil {
			return nil
		}
	}
	return fault.New(fault.Internal, "the demo finds no free port for its shop").Wrap(last)
}

func (f *demoFleet) portFree() error {
	for i := range demoServers {
		l, err := net.Listen("tcp", f.listen(i))
		if err != nil {
			return err
		}
		if err := l.Close(); err != nil {
			return err
		}
	}
	return nil
}

// writeProject writes what the user of the demo would have in their repository.
func (f *demoFleet) writeProject() error {
	const from = "demodata/project"
	if err := os.Mkdir(filepath.Join(f.project(), "static"), 0o755); err != nil {
		return err
	}
	for _, name := range []string{"page.html", "README.txt", "static/shop.css"} {
		text, err := demoData.ReadFile(from + "/" + name)
		if err != nil {
			return err
		}
		if err := f.writeFile(name, string(text)); err != nil {
			return err
		}
	}
	text, err := demoData.ReadFile("demodata/godeploy.toml")
	if err != nil {
		return err
	}
	return f.writeFile("godeploy.toml", f.fill(string(text)))
}

// writeFile writes one file of the project.
func (f *demoFleet) writeFile(name, text string) error {
	return os.WriteFile(filepath.Join(f.project(), filepath.FromSlash(name)), []byte(text), 0o644)
}

// fill puts paths and ports into godeploy.toml.
func (f *demoFleet) fill(text string) string {
	command := shellescape.Quote(filepath.Join(f.dir, "bin", "godeploy")) + " demo-app --listen {{.Host.Address}}:" +
		strconv.Itoa(f.app) + " --chdir {{.App.Current}} --lifeline " + f.line.Addr().String()
	return strings.NewReplacer(
		"@PATH@", tomlString(f.dir+"/fleet/{{.Host.Name}}/shop"), "@COMMAND@", tomlString(command),
		"@KEY@", tomlString(filepath.Join(f.dir, "id_ed25519")), "@NET@", f.network,
		"@SSH@", strconv.Itoa(f.ssh), "@APP@", strconv.Itoa(f.app),
	).Replace(text)
}

// tomlString quotes a string: TOML's escapes are a superset of JSON's.
func tomlString(s string) string {
	b, err := json.Marshal(s)
	if err != nil {
		panic(err) // cannot happen: every string has a form in JSON
	}
	return string(b)
}

// version writes a version of the shop; a broken one fails its health check.
func (f *demoFleet) version(n int, broken bool) error {
	if err := f.writeFile("VERSION", fmt.Sprintf("%d\n", n)); err != nil {
		return err
	}
	if broken {
		return f.writeFile("broken", "The health check answers 500 while this file is there.\n")
	}
	err := os.Remove(filepath.Join(f.project(), "broken"))
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	return err
}

// current gives the release that a server's link names, "" when there is none.
func (f *demoFleet) current(i int) string {
	to, err := os.Readlink(filepath.Join(f.home(i), "shop", "current"))
	if err != nil {
		return ""
	}
	return filepath.Base(to)
}

// close ends the shops, the helpers and the servers, and removes the folder unless it is kept.
func (f *demoFleet) close(keep bool) error {
	var all []error
	if f.line != nil {
		f.line.close()
	}
	all = append(all, f.shut(), endBelow(filepath.Join(f.dir, "fleet")))
	if !keep {
		all = append(all, os.RemoveAll(f.dir))
	}
	return errors.Join(all...)
}
