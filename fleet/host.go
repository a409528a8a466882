package fleet

// HostKind is what an agent is asked to do with its Docker Engine, beside stacks.
type HostKind string

// The kinds of host task. Target is a container, network, image or volume by name or id. Those
// for all containers leave out the ones that carry LabelSkip or its Komodo name. Pruning never
// takes what a stack of the agent has, or needs for a rollback.
const (
	HostStartContainer   HostKind = "start_container"
	HostRestartContainer HostKind = "restart_container"
	HostPauseContainer   HostKind = "pause_container"
	HostUnpauseContainer HostKind = "unpause_container"
	HostStopContainer    HostKind = "stop_container"
	HostDestroyContainer HostKind = "destroy_container"

	HostStartAll   HostKind = "start_all_containers"
	HostRestartAll HostKind = "restart_all_containers"
	HostPauseAll   HostKind = "pause_all_containers"
	HostUnpauseAll HostKind = "unpause_all_containers"
	HostStopAll    HostKind = "stop_all_containers"

	HostPruneContainers HostKind = "prune_containers"
	HostPruneNetworks   HostKind = "prune_networks"
	HostPruneImages     HostKind = "prune_images"
	HostPruneVolumes    HostKind = "prune_volumes"
	HostPruneBuildCache HostKind = "prune_build_cache"
	HostPruneSystem     HostKind = "prune_system"

	HostDeleteNetwork HostKind = "delete_network"
	HostDeleteImage   HostKind = "delete_image"
	HostDeleteVolume  HostKind = "delete_volume"
)

// The labels that exempt a container from the tasks that are for all containers.
const (
	LabelSkip       = "dev.varan.skip"
	LabelSkipKomodo = "komodo.skip"
)

// HostTask is one piece of work for a host's engine. Unlike an order it is not kept by the
// agent: when the link breaks, whether it was done is unknown.
type HostTask struct {
	Kind   HostKind `json:"kind"`
	Target string   `json:"target,omitempty"`
	// Signal and StopSeconds say how a container is stopped; empty and zero leave that to
	// its own settings.
	Signal      string `json:"signal,omitempty"`
	StopSeconds int    `json:"stop_seconds,omitempty"`
}
