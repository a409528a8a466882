package spec

import (
	"slices"
	"strings"
)

// schema is one resource type: the fields beside config, and those inside.
type schema struct {
	// name is the table's name in the singular.
	name   string
	top    *fieldSet
	config *fieldSet // nil for a flat type
	naming naming
	// idle types are kept and not acted on.
	idle bool
	// doc says what the resource is, for people.
	doc string
	// folded is the field that type and params are for when they are written beside it.
	folded string
}

// The tables of all types. They are read-only.
var (
	serverSchema     = schema{"server", fieldsOf[Server](), fieldsOf[ServerConfig](), freeName, false, "A Docker host.", ""}
	stackSchema      = schema{"stack", fieldsOf[Stack](), fieldsOf[StackConfig](), projectName, false, "A Compose application on one server or several.", ""}
	deploymentSchema = schema{"deployment", fieldsOf[Deployment](), fieldsOf[DeploymentConfig](), freeName, false, "One container on a server.", ""}
	repoSchema       = schema{"repo", fieldsOf[Repo](), fieldsOf[RepoConfig](), freeName, false, "A Git repository, and a server its files are put on.", ""}
	buildSchema      = schema{"build", fieldsOf[Build](), fieldsOf[BuildConfig](), displayName, true, "An image to build.", ""}
	builderSchema    = schema{"builder", fieldsOf[Builder](), nil, displayName, true, "A machine that builds.", "config"}
	procedureSchema  = schema{"procedure", fieldsOf[Procedure](), fieldsOf[ProcedureConfig](), displayName, false, "Executions in stages.", ""}
	actionSchema     = schema{"action", fieldsOf[Action](), fieldsOf[ActionConfig](), displayName, true, "A script.", ""}
	alerterSchema    = schema{"alerter", fieldsOf[Alerter](), fieldsOf[AlerterConfig](), displayName, false, "A place that alerts are sent to.", "endpoint"}
	swarmSchema      = schema{"swarm", fieldsOf[Swarm](), fieldsOf[SwarmConfig](), displayName, true, "A Docker swarm.", ""}
	syncSchema       = schema{"resource_sync", fieldsOf[ResourceSync](), fieldsOf[ResourceSyncConfig](), displayName, false, "A repository of resource files.", ""}
	variableSchema   = schema{"variable", fieldsOf[Variable](), nil, freeName, false, "A value that [[NAME]] stands for.", ""}
	userGroupSchema  = schema{"user_group", fieldsOf[UserGroup](), nil, displayName, false, "Users and what they may do.", ""}

	schemas = []*schema{
		&serverSchema, &stackSchema, &deploymentSchema, &repoSchema, &buildSchema, &builderSchema, &procedureSchema,
		&actionSchema, &alerterSchema, &swarmSchema, &syncSchema, &variableSchema, &userGroupSchema,
	}

	// anywhere are keys of older versions that any resource may have.
	anywhere = map[string]string{"skip_incompatible": "nothing is skipped"}

	// gone are tables of older versions.
	gone = map[string]string{"server_template": "servers are not made here"}
)

// typeOf returns the singular of a top-level key: "stacks" and "stack" are "stack".
func typeOf(key string) (name string, ok bool) {
	for _, s := range schemas {
		if key == s.name || strings.TrimSuffix(key, "s") == s.name {
			return s.name, true
		}
	}
	return "", false
}

func typeNames() []string {
	names := make([]string, len(schemas))
	for i, s := range schemas {
		names[i] = s.name
	}
	return names
}

// place says where a key of a resource belongs.
type place struct {
	field  *field
	config bool
}

// name is the field's name in messages and marks.
func (p place) name() string {
	if p.config {
		return "config." + p.field.key
	}
	return p.field.key
}

// find looks a key up. A config field may be written beside config, and a hoisted
// field inside it.
func (s *schema) find(key string, inConfig bool) (place, bool) {
	if f, ok := s.top.byKey[key]; ok && (!inConfig || f.hoist) {
		return place{field: f}, true
	}
	if s.config != nil {
		if f, ok := s.config.byKey[key]; ok {
			return place{field: f, config: true}, true
		}
	}
	return place{}, false
}

// retired says why a key of older versions means nothing now.
func (s *schema) retired(key string) (why string, ok bool) {
	if s.config != nil {
		if why, ok = s.config.retired[key]; ok {
			return why, true
		}
	}
	if why, ok = s.top.retired[key]; ok {
		return why, true
	}
	why, ok = anywhere[key]
	return why, ok
}

// keys are all spellings accepted at a place, for hints.
func (s *schema) keys(inConfig bool) []string {
	var keys []string
	if !inConfig {
		keys = slices.Clone(s.top.keys)
	}
	if s.config == nil {
		return keys
	}
	for _, f := range s.top.fields {
		if inConfig && f.hoist {
			keys = append(keys, f.key)
		}
	}
	if !inConfig {
		keys = append(keys, "config")
	}
	return append(keys, s.config.keys...)
}
