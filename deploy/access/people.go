package access

import (
	"errors"
	"fmt"

	"godeploy/inventory"
)

// Owner is who a key belongs to.
type Owner struct {
	Name string
	Key  Key
}

// People gives the keys of [[people]]. The error joins what is wrong with each of them; every one is of code
// key-refused.
func People(env *inventory.Env) ([]Owner, error) {
	var all []Owner
	var faults []error
	for _, p := range env.People {
		for n, text := range p.Keys {
			k, err := ParseKey([]byte(text), fmt.Sprintf("key %d of %s in [[people]]", n+1, p.Name))
			if err != nil {
				faults = append(faults, err)
				continue
			}
			all = append(all, Owner{p.Name, k})
		}
	}
	return all, errors.Join(faults...)
}

// nameOf is whose key it is, "" when nobody's.
func nameOf(owners []Owner, blob []byte) string {
	for _, o := range owners {
		if o.Key.Same(Key{Blob: blob}) {
			return o.Name
		}
	}
	return ""
}
