# The commands of a day's work; CONTRIBUTING.md says when to use which.
SHELL    := /bin/bash -o pipefail
# The version comes from git: the Go toolchain stamps tag, commit and "dirty" into the binary itself.
LDFLAGS  := -s -w
BLOBS    := deploy/overssh/blobs
FUZZTIME ?= 20s
CHAOS    ?= 20
ROOT     := $(filter 0,$(shell id -u))

.PHONY: build helper test bench bench-code tune-plot chaos lint vuln dist mutants restart-table hosts-up hosts-down clean

build: ## the godeploy binary, here
	CGO_ENABLED=0 go build -trimpath -ldflags '$(LDFLAGS)' -o godeploy ./cmd/godeploy

helper: ## the helpers that a release build carries in itself
	@mkdir -p $(BLOBS)
	@for arch in amd64 arm64; do \
	  tmp=$$(mktemp -d) && \
	  CGO_ENABLED=0 GOOS=linux GOARCH=$$arch go build -trimpath -ldflags '-s -w -buildid=' -o $$tmp/helper ./cmd/godeploy-helper && \
	  sha256sum <$$tmp/helper | cut -d' ' -f1 >$(BLOBS)/helper-linux-$$arch.sha256 && \
	  gzip -9n <$$tmp/helper >$(BLOBS)/helper-linux-$$arch.gz && \
	  xz -9e --check=crc32 $$([ $$arch = amd64 ] && echo --x86 --lzma2=preset=9e) <$$tmp/helper >$(BLOBS)/helper-linux-$$arch.xz && rm -r $$tmp || exit 1; \
	done

# Packages run one after the other where they boot hosts: two cores, and timings that mean something.
ifeq ($(ROOT),0)
test: ## everything, booted hosts too; installs what is missing
	tools/apt.sh
	go -C tools build -o $(CURDIR)/dist/gate ./gate
	GODEPLOY_TEST_MUST_RUN=1 go test -race -shuffle=on -count=1 -timeout 20m -json ./... | dist/gate e2e/tests.txt
	go -C tools test ./...
else
test: ## everything but the booted hosts, which need root
	@tools/apt.sh only-say
	go -C tools build -o $(CURDIR)/dist/gate ./gate
	go test -race -shuffle=on -timeout 20m -json ./... | dist/gate
	go -C tools test ./...
	@echo "The end-to-end tests on booted hosts need root and did NOT run: sudo make test"
endif

bench: helper ## godeploy against rsync, as root: all rows and docs/performance.md; LIST=1, QUICK=1, ROW='noop-* edit-11k', N=9, PAGE=1, DIR=/folder; CONTINUE=1 goes on with a run that was stopped
	@mkdir -p dist/bench
	CGO_ENABLED=0 go build -trimpath -tags embedhelper,urfave_cli_no_docs -ldflags '$(LDFLAGS)' -o dist/bench/godeploy ./cmd/godeploy
	CGO_ENABLED=0 go build -trimpath -o dist/bench/bench ./e2e/bench
	@dist/bench/bench -godeploy dist/bench/godeploy $(if $(LIST),-list) $(if $(QUICK),-quick) $(if $(PAGE),-page) $(if $(CONTINUE),-continue) $(if $(ROW),-row '$(ROW)') $(if $(N),-n $(N)) $(if $(DIR),-dir $(DIR))

bench-code: ## the packages' own benchmarks
	go test -run '^$$' -bench . -benchmem ./...

# What a commit has seen is kept, so that a sweep that was stopped goes on where it was.
CHAOS_BOOK ?= $(CURDIR)/dist/chaos/$(shell git rev-parse --short HEAD 2>/dev/null || echo none).jsonl

chaos: ## strikes a release everywhere (CHAOS_PART=i/n: a part) and writes docs/reliability.md; then the fault tests many times over (CHAOS=N, default 20), random histories and trees 100 times as many, every fuzzer for FUZZTIME
	@mkdir -p dist/chaos
	GODEPLOY_CHAOS=all GODEPLOY_CHAOS_PART=$(CHAOS_PART) GODEPLOY_CHAOS_RESULTS=$(CHAOS_BOOK) go test -count=1 -timeout 24h ./e2e/chaos; rc=$$?; \
	  GODEPLOY_CHAOS_RESULTS=$(CHAOS_BOOK) GODEPLOY_CHAOS_PAGE=$(CURDIR)/docs/reliability.md go test -count=1 -run 'TestPage$$' ./e2e/chaos && exit $$rc
ifeq ($(ROOT),0)
	GODEPLOY_TEST_MUST_RUN=1 GODEPLOY_CHAOS_CUTS=50 GODEPLOY_CHAOS_REQUESTS=200000 go test -count=1 -v -timeout 4h -run 'TestAPowerCutInARelease|TestTwentyReleasesUnderLoad' -parallel 1 ./e2e
endif
	go test -race -shuffle=on -count=$(CHAOS) -timeout 60m ./hooks ./internal/helper ./internal/wire ./sshx ./deploy/overssh ./sync/synctest
	GODEPLOY_SSH_SWEEP=2000 go test -count=1 -timeout 60m -run Generated ./sshx
	GODEPLOY_SSH_SWEEP=0 go test -count=1 -timeout 60m -run DropsAfter ./sshx
	go test -race -count=1 -timeout 60m -run 'Any|Random' ./deploy ./sync -rapid.checks=$$((100 * $(CHAOS)))
	@set -e; for pkg in $$(grep -rl --include='*_test.go' '^func Fuzz' . | xargs -n1 dirname | sort -u); do \
	  for f in $$(grep -rho --include='*_test.go' '^func Fuzz[A-Za-z0-9]*' $$pkg/*_test.go | sed 's/func //'); do \
	    echo "$$pkg $$f"; go test -run '^$$' -fuzz "^$$f$$" -fuzztime $(FUZZTIME) $$pkg; done; done

.PHONY: keys-sweep
keys-sweep: ## kills keys push and keys rotate at every call that writes and at every piece of the connection, then 8 people push 50 keys each; as root, about 25 minutes
	GODEPLOY_TEST_MUST_RUN=1 GODEPLOY_KEYS_SWEEP=all go test -count=1 -v -timeout 120m -run 'TestKeysSurviveKills|TestManyPushesLoseNoKey' ./cmd

.PHONY: drain
drain: ## the nginx and the HAProxy tier in full counts on booted hosts, as root: a drain under 50,000 one-shot requests, shares, ip_hash, assets over ten releases, the gate; writes docs/drain.md
	GODEPLOY_TEST_MUST_RUN=1 GODEPLOY_DRAIN_PAGE=1 GODEPLOY_DRAIN_LOAD=50000 GODEPLOY_TEST_FULL=1 go test -race -count=1 -timeout 60m -parallel 1 -v ./e2e \
	  -run '^(TestNginxTier|TestDrainUnderLoad|TestHaproxyTier|TestStaticFilesAreThereBeforeAndAfter|TestTheGateUndoesAFlakyRelease)$$'

.PHONY: oracle
oracle: ## 2,000 random trees, rules, edits and targets of each kind against rsync and git, and 1,000 rounds of a source that changes
	GODEPLOY_TEST_MUST_RUN=1 GODEPLOY_TEST_FULL=1 go test -count=1 -timeout 6h -run 'Random|AgreesWithRsync|ThatChangesMeanwhile' ./sync -rapid.checks=2000

lint: ## what a change must pass before anything else
	go vet ./...
	go -C tools vet ./...
	@bad=$$(gofmt -l $$(git ls-files '*.go')); [ -z "$$bad" ] || { echo "not gofmt: $$bad"; exit 1; }
	go -C tools build -o $(CURDIR)/dist/staticcheck honnef.co/go/tools/cmd/staticcheck
	dist/staticcheck ./...
	GOOS=darwin go vet ./cmd/... && GOOS=windows go vet ./cmd/...
	go test -count=1 -run 'TestFloors' ./e2e

vuln: ## known vulnerabilities of what is linked; its database has to be in reach (GOVULNDB, else vuln.go.dev)
	go -C tools build -o $(CURDIR)/dist/govulncheck golang.org/x/vuln/cmd/govulncheck
	dist/govulncheck $(if $(GOVULNDB),-db $(GOVULNDB)) ./...

dist: helper ## release binaries with helpers inside
	@mkdir -p dist
	@for target in linux/amd64 linux/arm64 darwin/amd64 darwin/arm64 windows/amd64; do \
	  os=$${target%/*}; arch=$${target#*/}; ext=; [ $$os = windows ] && ext=.exe; \
	  echo "dist/godeploy-$$os-$$arch$$ext"; \
	  CGO_ENABLED=0 GOOS=$$os GOARCH=$$arch go build -trimpath -tags embedhelper,urfave_cli_no_docs -ldflags '$(LDFLAGS)' \
	    -o dist/godeploy-$$os-$$arch$$ext ./cmd/godeploy || exit 1; \
	done
	cd dist && sha256sum godeploy-* > SHA256SUMS

restart-table: ## every way to restart under every oddity on booted hosts, as root, into docs/restart.md; RUNS=20 of each row, FOR=1h, ROW='gunicorn hup', MORE=1 adds to what was seen, FLEETS=3 tries 12 rows at a time
	@mkdir -p dist; $(if $(MORE),,rm -f dist/restarts.json)
	GODEPLOY_TEST_MUST_RUN=1 GODEPLOY_E2E_PLAIN=1 GODEPLOY_RESTART_TABLE=$(or $(RUNS),1) GODEPLOY_RESTART_ROW='$(ROW)' GODEPLOY_RESTART_FOR='$(FOR)' GODEPLOY_RESTART_FLEETS=$(FLEETS) GODEPLOY_RESTART_SEEN=$(CURDIR)/dist/restarts.json \
	  go test -count=1 -timeout 10h -parallel 64 -run '^TestRestartTable$$' ./e2e

tune-plot: ## bursts on a booted host with net.core.somaxconn 128 and 4096, as root; writes docs/tuning.md and its picture
	GODEPLOY_TUNE_PLOT=1 GODEPLOY_TEST_MUST_RUN=1 go test -count=1 -timeout 10m -v -run 'TestTunePlot$$' ./e2e

mutants: ## plants defects and sees that each is caught
	go run ./e2e/mutants

hosts-up: ## boots the test hosts and keeps them
	go run ./e2e/hosts/fleet up

hosts-down: ## removes kept hosts: make hosts-down FLEET=id; without FLEET, lists them
	@if [ -n "$(FLEET)" ]; then go run ./e2e/hosts/fleet down $(FLEET); \
	else echo "kept fleets (make hosts-down FLEET=id):"; go run ./e2e/hosts/fleet list; fi

clean:
	rm -rf dist godeploy $(BLOBS)/helper-linux-*
