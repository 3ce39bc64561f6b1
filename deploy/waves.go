package deploy

// Waves parts hosts, in file order, into groups that are switched one after another, size at a time.
// A canary goes first and alone, whatever the size. size below 1 means 1; the input is not changed.
func Waves(hosts []string, size int, canary string) [][]string {
	if size < 1 {
		size = 1
	}
	var waves [][]string
	rest := make([]string, 0, len(hosts))
	for _, h := range hosts {
		if h == canary {
			waves = append(waves, []string{h})
			continue
		}
		rest = append(rest, h)
	}
	for len(rest) > 0 {
		n := min(size, len(rest))
		waves = append(waves, rest[:n:n])
		rest = rest[n:]
	}
	return waves
}
