package chaos

import (
	"context"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"godeploy/internal/helper"
)

// The variables that make the test binary a helper, and a faulty one.
const (
	helperEnv  = "GODEPLOY_CHAOS_HELPER"
	faultEnv   = "GODEPLOY_CHAOS_FAULT"   // see parseFault
	logEnv     = "GODEPLOY_CHAOS_LOG"     // file that takes every operation, and where the fault struck
	bootEnv    = "GODEPLOY_CHAOS_BOOT"    // boot id; "" is the kernel's
	silenceEnv = "GODEPLOY_CHAOS_SILENCE" // instead of 30 s
)

// TestMain lets the test binary be the helper that the tests kill.
func TestMain(m *testing.M) {
	if os.Getenv(helperEnv) != "" {
		os.Exit(beHelper())
	}
	os.Exit(m.Run())
}

func beHelper() int {
	f, err := parseFault(os.Getenv(faultEnv))
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 2
	}
	f.log = os.Getenv(logEnv)
	o := helper.Options{Boot: os.Getenv(bootEnv), Wrap: f.wrap}
	if s := os.Getenv(silenceEnv); s != "" {
		if o.Silence, err = time.ParseDuration(s); err != nil {
			return 2
		}
	}
	for _, name := range []string{helperEnv, faultEnv, logEnv, bootEnv, silenceEnv} {
		_ = os.Unsetenv(name) // hooks are not to inherit them
	}
	return helper.MainWith(context.Background(), o, os.Stdin, os.Stdout, os.Stderr)
}

// words splits a fault's text.
func words(text string) []string { return strings.Fields(text) }
