package filesync

// Enter gives the rules that hold for what is in dir, a path relative to the source ("." is the
// source itself), given those of the folder it lies in. It is r itself when the folder adds nothing,
// and that costs nothing where no rule names files to look for. in is what is in the folder, in any
// order; read gives the content of one file of it and is called only for names found in in. Errors
// are faults of code fault.ConfigValue that name the file, joined.
func (r *Rules) Enter(dir string, in []Info, read func(name string) ([]byte, error)) (*Rules, error) {
	return r, nil
}

// Protected says whether a path that the source does not have is left alone on the target when what
// is too much there is deleted: what is excluded is protected, unless a rule speaks of one side only.
// A folder that is protected is not entered; one that is not may hold what is: it then stays, too.
func (r *Rules) Protected(path string, dir bool) bool {
	rules := always()
	if r != nil {
		rules = r.rules
	}
	for i := range rules {
		if (rules[i].receiver || !rules[i].sender) && rules[i].matches(path, dir) {
			return !rules[i].include
		}
	}
	return false
}
