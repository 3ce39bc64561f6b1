package cmd

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"godeploy/deploy/tune"
)

func TestVitalsAreThoseOfTheApp(t *testing.T) {
	t.Parallel()
	of := func(unit string, pid, parent int) tune.Process {
		return tune.Process{Unit: unit, PID: pid, Parent: parent, Age: 100, Limits: map[string]uint64{"nofile": 1024}, Soft: map[string]uint64{"nofile": 1024}}
	}
	w := tune.Want{Limits: map[string]uint64{"nofile": 4096}, Units: []string{"shop.service"}}
	h := tune.Have{
		Processes: []tune.Process{of("shop.service", 10, 0), of("shop.service", 11, 10), of(tune.NginxUnit, 20, 0)},
		Queues:    []tune.Queue{{Address: "*:9000", Waiting: 3, Max: 128, PIDs: []int{10, 11}}, {Address: "*:80", Max: 511, PIDs: []int{20}}},
		Overflows: 7, Load: "0.1 0.2 0.3", CPUs: 2, MemTotal: 1000, MemFree: 250,
	}
	want := &vitals{Master: 10, Age: 100, Workers: []workerVitals{{11, 100}}, Queues: []queueVitals{{"*:9000", 3, 128}}, Overflows: 7,
		Load: "0.1 0.2 0.3", CPUs: 2, Memory: room{1000, 250},
		Limits: []tune.Finding{{What: "nofile of shop.service", Want: "4096", Live: "1024", Note: "it was started before", Start: "shop.service"}}}
	got := vitalsOf(w, h, false)
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
	if got.Memory.used() != "75%" || got.Disk.used() != "?" || queueText(got.Queues) != "3/128" {
		t.Errorf("shown as %s, %s, %s", got.Memory.used(), got.Disk.used(), queueText(got.Queues))
	}
	front := vitalsOf(w, h, true)
	if d := cmp.Diff([]queueVitals{{"*:80", 0, 511}}, front.Queues); d != "" || front.Master != 20 || len(front.Workers) != 0 {
		t.Errorf("of nginx: %+v", front)
	}
}

func TestAges(t *testing.T) {
	t.Parallel()
	for seconds, want := range map[int64]string{-1: "", 0: "0s", 59: "59s", 61: "1m01s", 3660: "1h01m", 47 * 3600: "47h00m", 49 * 3600: "2d01h"} {
		if got := ageText(seconds); got != want {
			t.Errorf("%d s: got %q, want %q", seconds, got, want)
		}
	}
}
