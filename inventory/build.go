package inventory

import (
	"fmt"
	"maps"
	"reflect"
	"slices"

	"godeploy/internal/fault"
)

// builder makes a File of its documents.
type builder struct {
	f     *File
	bad   *problems
	cache *cache
	ranks map[string]int // place of each host among those of its environment
}

// top is what may stand at the top of godeploy.toml beside the environments.
type top struct {
	Version    int    `toml:"version" min:"1" max:"1000000" default:"1" doc:"version of the file's format"`
	DefaultEnv string `toml:"default_env" rule:"word" doc:"the environment meant when none is named; not needed with only one"`
	Config
}

// formatVersion is the newest format this program reads.
const formatVersion = 1

func newBuilder(f *File, bad *problems) *builder {
	return &builder{f: f, bad: bad, cache: newCache()}
}

func (b *builder) decoder(doc *document, bad *problems) *decoder {
	return &decoder{doc: doc, bad: bad, cache: b.cache}
}

func (b *builder) build() {
	t := newDefault(reflect.TypeFor[top]()).Interface().(*top)
	b.decoder(b.f.main, b.bad).table(nil, b.f.main.tree, reflect.ValueOf(t).Elem(), "env")
	if t.Version > formatVersion {
		e := b.f.main.valueFault([]string{"version"}, badValue("is %d; this godeploy reads files of version %d", t.Version, formatVersion))
		b.bad.add(e.Hint("the file needs a newer godeploy"))
	}
	b.ranks = hostRanks(b.f)
	tables := b.envTables()
	for _, name := range b.f.order {
		b.f.envs[name] = b.env(name, tables[name])
	}
	b.defaultEnv(t.DefaultEnv)
	if len(b.f.order) == 0 {
		b.bad.add(fault.New(fault.ConfigMissing, "no environment in the file").At(fault.Pos{File: b.f.main.name, Line: 1, Col: 1}).
			Hint("name its hosts: [env.prod.hosts] and below it app1 = { role = \"app\", address = \"192.0.2.1\" }"))
	}
}

// envTable is the raw table of one environment and the document it stands in.
type envTable struct {
	doc *document
	raw map[string]any
}

// envTables finds the environments and puts their names into the file's order.
func (b *builder) envTables() map[string]envTable {
	tables := map[string]envTable{}
	main := b.f.main
	envs, ok := main.tree["env"].(map[string]any)
	if raw, set := main.tree["env"]; set && !ok {
		b.decoder(main, b.bad).mismatch([]string{"env"}, raw, "a table")
	}
	for _, key := range main.keys {
		if len(key) < 2 || key[0] != "env" || contains(b.f.order, key[1]) {
			continue
		}
		name, path := key[1], []string{"env", key[1]}
		raw, isTable := envs[name].(map[string]any)
		if !isTable {
			if _, set := envs[name]; set {
				b.decoder(main, b.bad).mismatch(path, envs[name], "a table")
			}
			continue
		}
		if len(b.f.order) == maxEnvs {
			b.decoder(main, b.bad).refuse([]string{"env"}, badValue("has more than %d environments", maxEnvs))
			break
		}
		b.envName(main, name)
		b.f.order = append(b.f.order, name)
		tables[name] = envTable{main, raw}
	}
	for _, name := range slices.Sorted(maps.Keys(b.f.extra)) {
		doc := b.f.extra[name]
		if _, both := tables[name]; both {
			b.bad.add(fault.New(fault.ConfigValue, "environment %q stands in %s and in %s", name, main.name, doc.name).
				At(main.keyPos([]string{"env", name})).Hint("move it into one of the two"))
			continue
		}
		b.envName(doc, name)
		b.f.order = append(b.f.order, name)
		tables[name] = envTable{doc, doc.tree}
	}
	return tables
}

func (b *builder) envName(doc *document, name string) {
	if err := checkEnvName(name); err != nil {
		b.bad.add(fault.New(fault.ConfigValue, "name of environment %q %v", name, err).At(doc.keyPos([]string{"env", name})))
	}
}

func (b *builder) defaultEnv(name string) {
	if name == "" || contains(b.f.order, name) {
		b.f.defaultEnv = name
		return
	}
	err := badValue("names the unknown environment %q", name)
	if near := nearest(name, b.f.order); near != "" {
		err.hinted("did you mean %q?", near)
	}
	b.bad.add(b.f.main.valueFault([]string{"default_env"}, err))
}

// env decodes the top of the file once more and one environment over it.
func (b *builder) env(name string, table envTable) *Env {
	e := newDefault(reflect.TypeFor[Env]()).Interface().(*Env)
	e.Name = name
	base := reflect.ValueOf(&e.Config).Elem()
	b.decoder(b.f.main, nil).table(nil, b.f.main.tree, base)
	above := e.Sync.ExcludeAdd

	d := b.decoder(table.doc, b.bad)
	path := []string{"env", name}
	e.Sync.ExcludeAdd = nil
	d.table(path, table.raw, reflect.ValueOf(e).Elem(), "hosts")
	e.Sync.ExcludeAdd = append(above, e.Sync.ExcludeAdd...)
	entries := b.hosts(d, below(path, "hosts"), table.raw["hosts"])
	b.resolve(e, entries)
	fillNames(e)
	c := checker{f: b.f, env: e, doc: table.doc, bad: b.bad}
	c.all(entries)
	return e
}

// fillNames gives the defaults that are made of the app's name.
func fillNames(e *Env) {
	if e.Process.Unit == "" && e.App.Name != "" {
		e.Process.Unit = e.App.Name + ".service"
	}
	if e.Nginx == nil {
		return
	}
	if e.Nginx.Upstream == "" {
		e.Nginx.Upstream = e.App.Name + "_servers"
	}
	if e.Nginx.File == "" {
		e.Nginx.File = "/etc/nginx/conf.d/godeploy-" + e.App.Name + ".conf"
	}
}

// hostRanks gives every host's place in its file: maps have no order, but people write one.
func hostRanks(f *File) map[string]int {
	ranks := map[string]int{}
	docs := append([]*document{f.main}, slices.Collect(maps.Values(f.extra))...)
	for _, doc := range docs {
		for i, key := range doc.keys {
			path := []string(key)
			if doc.env != "" {
				path = append([]string{"env", doc.env}, path...)
			}
			if len(path) < 4 || path[0] != "env" || path[2] != "hosts" {
				continue
			}
			id := pathID(path[:4])
			if _, seen := ranks[id]; !seen {
				ranks[id] = i
			}
		}
	}
	return ranks
}

// hosts decodes the hosts of one environment, in the order of the file.
func (b *builder) hosts(d *decoder, path []string, raw any) []namedEntry {
	if raw == nil {
		return nil
	}
	table, ok := raw.(map[string]any)
	if !ok {
		d.mismatch(path, raw, "a table")
		return nil
	}
	if len(table) > maxHosts {
		d.refuse(path, badValue("has more than %d hosts", maxHosts))
		return nil
	}
	names, rank := slices.Collect(maps.Keys(table)), map[string]int{}
	for _, name := range names {
		rank[name] = b.ranks[pathID(below(path, name))]
	}
	slices.SortFunc(names, func(x, y string) int { return rank[x] - rank[y] })
	entries := make([]namedEntry, 0, len(names))
	for _, name := range names {
		entries = append(entries, b.host(d, below(path, name), name, table[name]))
	}
	return entries
}

// namedEntry is a host as it stands in the file, with its name.
type namedEntry struct {
	name string
	hostEntry
}

func (b *builder) host(d *decoder, path []string, name string, raw any) namedEntry {
	entry := *newDefault(reflect.TypeFor[hostEntry]()).Interface().(*hostEntry)
	entry.pos = d.doc.keyPos(path)
	if err := checkHostName(name); err != nil {
		d.bad.add(fault.New(fault.ConfigValue, "name of host %q %v", name, err).At(entry.pos))
	}
	table, ok := raw.(map[string]any)
	if !ok {
		e := d.doc.valueFault(path, badValue("is %s, it must be a table", kindOf(raw)))
		if s, isString := raw.(string); isString {
			e.Hint("write %s = { address = %s }", quoteKey(name), fmt.Sprintf("%q", s))
		}
		d.bad.add(e)
		return namedEntry{name, entry}
	}
	d.table(path, table, reflect.ValueOf(&entry).Elem())
	return namedEntry{name, entry}
}

// resolve fills in what the hosts take from their roles and from [ssh].
func (b *builder) resolve(e *Env, entries []namedEntry) {
	e.Hosts = make([]Host, 0, len(entries))
	for _, entry := range entries {
		h := Host{
			Name: entry.name, Weight: entry.Weight, Tags: entry.Tags, Backup: entry.Backup,
			HostKey: entry.HostKey, AppAddress: entry.AppAddress, Port: entry.Port, User: entry.User, Roles: entry.Roles, Pos: entry.pos,
		}
		if entry.Role != "" {
			h.Roles = []string{entry.Role}
		}
		address := entry.Address
		if address == "" {
			address = entry.name
		}
		// An address that is wrong was reported by its rule; a wrong name as an address is below.
		h.Address, _ = normalAddress(address)
		jump := entry.Jump
		for _, name := range h.Roles {
			role := e.Role[name]
			if h.Port == 0 {
				h.Port = role.Port
			}
			if h.User == "" {
				h.User = role.User
			}
			// An empty list is not nil: it says that there is no jump.
			if jump == nil && !names(role.Jump, h.Name) {
				jump = role.Jump
			}
		}
		if h.Port == 0 {
			h.Port, h.AnyPort = e.SSH.Port, true
		}
		if h.User == "" {
			h.User = e.SSH.User
		}
		h.Direct = jump != nil && len(jump) == 0
		for _, chain := range jump {
			h.Jump = append(h.Jump, chain)
		}
		e.Hosts = append(e.Hosts, h)
	}
}

// names reports whether a host is one of the hops. A host that its role's other hosts are reached
// through is itself reached directly.
func names(chains []Chain, host string) bool {
	return slices.ContainsFunc(chains, func(c Chain) bool { return contains(c, host) })
}
