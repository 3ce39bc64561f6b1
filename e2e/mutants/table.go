package main

// mutants is the table: what watches the project first, then the product itself.
func mutants() []mutant { return append(watchers(), product()...) }

// watchers are defects in what is to catch defects: floors, test hosts, skips.
func watchers() []mutant {
	const floors = "go test -count=1 -run 'TestFloors$' ./e2e"
	const boots = "go test -count=1 -run 'TestFleetBoots$' ./e2e"
	const gated = "go -C tools build -o ../gate-bin ./gate && " +
		"go test -count=1 -json -run 'TestFleetBoots$' ./e2e | (grep TestFleetBoots e2e/tests.txt > must.txt; ./gate-bin must.txt)"
	return []mutant{
		{
			Name: "floor: an import that goes up",
			File: "deploy/process/upward.go", New: "package process\n\nimport _ \"godeploy/deploy/overssh\"\n",
			Test: floors, Says: "deploy/process imports deploy/overssh, which is not below it",
		},
		{
			Name: "floor: a package that is not on the plan",
			File: "internal/util/util.go", New: "package util\n",
			Test: floors, Says: "internal/util is not on the plan",
		},
		{
			Name: "floor: a module where it is not meant to be",
			File: "deploy/outside.go", New: "package deploy\n\nimport _ \"github.com/BurntSushi/toml\"\n",
			Test: floors, Says: "which is not meant for it",
		},
		{
			Name: "e2e: a host whose sshd is dead",
			File: "e2e/hosts/base.sh", Old: "# Only what a role needs is started;", New: "inside systemctl -q disable ssh.service ssh.socket\n# Only what a role needs is started;",
			Test: "GODEPLOY_E2E_CACHE=$PWD/cache go test -count=1 -run 'TestFleetBoots$' ./e2e; rc=$?; rm -rf cache/base-*; exit $rc", Says: "sshd does not answer",
		},
		{
			Name: "e2e: a host without its app",
			File: "e2e/hosts/service.go", Old: "systemctl restart swiper.service`", New: "[ \"$(hostname)\" = app3 ] || systemctl restart swiper.service`",
			Test: boots, Says: "want all four app hosts",
		},
		{
			Name: "e2e: the test skips itself",
			File: "e2e/fleet_test.go", Old: "func TestFleetBoots(t *testing.T) {\n", New: "func TestFleetBoots(t *testing.T) {\n\tt.Skip(\"later\")\n",
			Test: gated, Says: "did not pass, and had to: godeploy/e2e TestFleetBoots",
		},
		{
			Name: "e2e: the test is gone",
			File: "e2e/fleet_test.go", Old: "func TestFleetBoots(t *testing.T) {\n", New: "func testFleetBoots(t *testing.T) {\n",
			Test: gated, Says: "did not pass, and had to: godeploy/e2e TestFleetBoots",
		},
		{
			Name: "e2e: a load that counts failures as good",
			File: "e2e/hosts/load.go", Old: "		l.report.Failed++\n", New: "",
			Test: boots, Says: "load with one of two nginx hosts dead",
		},
	}
}
