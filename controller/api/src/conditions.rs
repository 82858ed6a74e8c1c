//! Condition types and reasons of Gateway API v1, each once, and our own for EnvoyFilter.

/// Condition types.
pub mod types {
    /// The object was taken up.
    pub const ACCEPTED: &str = "Accepted";
    /// The data plane obeys it.
    pub const PROGRAMMED: &str = "Programmed";
    /// Everything that it refers to is there and may be used.
    pub const RESOLVED_REFS: &str = "ResolvedRefs";
    /// It cannot be used together with another listener.
    pub const CONFLICTED: &str = "Conflicted";
    /// Some rules are wrong and are left out.
    pub const PARTIALLY_INVALID: &str = "PartiallyInvalid";
    /// The installed version of the CRDs is one that we know.
    pub const SUPPORTED_VERSION: &str = "SupportedVersion";
    /// Our own (EnvoyFilter): every patch found something to patch.
    /// An EnvoyFilter has `Programmed`, too: false if a proxy rejects what it patches.
    pub const PATCHES_MATCHED: &str = "PatchesMatched";
}

/// Reasons.
pub mod reasons {
    /// Accepted.
    pub const ACCEPTED: &str = "Accepted";
    /// Programmed.
    pub const PROGRAMMED: &str = "Programmed";
    /// All references resolve.
    pub const RESOLVED_REFS: &str = "ResolvedRefs";
    /// No conflict.
    pub const NO_CONFLICTS: &str = "NoConflicts";
    /// Something is wrong with it.
    pub const INVALID: &str = "Invalid";
    /// Not looked at yet.
    pub const PENDING: &str = "Pending";
    /// One or more listeners are wrong.
    pub const LISTENERS_NOT_VALID: &str = "ListenersNotValid";
    /// `parametersRef` is wrong.
    pub const INVALID_PARAMETERS: &str = "InvalidParameters";
    /// An address type that is not supported.
    pub const UNSUPPORTED_ADDRESS: &str = "UnsupportedAddress";
    /// An address that cannot be used.
    pub const ADDRESS_NOT_USABLE: &str = "AddressNotUsable";
    /// No address was given to it.
    pub const ADDRESS_NOT_ASSIGNED: &str = "AddressNotAssigned";
    /// Not enough resources to program it.
    pub const NO_RESOURCES: &str = "NoResources";
    /// The CRDs are of a version that we know.
    pub const SUPPORTED_VERSION: &str = "SupportedVersion";
    /// A protocol that is not supported.
    pub const UNSUPPORTED_PROTOCOL: &str = "UnsupportedProtocol";
    /// A value that is not supported.
    pub const UNSUPPORTED_VALUE: &str = "UnsupportedValue";
    /// Filters that do not go together.
    pub const INCOMPATIBLE_FILTERS: &str = "IncompatibleFilters";
    /// The port cannot be used.
    pub const PORT_UNAVAILABLE: &str = "PortUnavailable";
    /// Two listeners on one port with protocols that do not go together.
    pub const PROTOCOL_CONFLICT: &str = "ProtocolConflict";
    /// Two listeners on one port with the same hostname.
    pub const HOSTNAME_CONFLICT: &str = "HostnameConflict";
    /// A certificate reference is wrong.
    pub const INVALID_CERTIFICATE_REF: &str = "InvalidCertificateRef";
    /// A reference to roots for clients' certificates is wrong.
    pub const INVALID_CA_CERTIFICATE_REF: &str = "InvalidCACertificateRef";
    /// Roots for clients' certificates in an object of a kind that is not supported.
    pub const INVALID_CA_CERTIFICATE_KIND: &str = "InvalidCACertificateKind";
    /// No root at all by which clients' certificates could be checked.
    pub const NO_VALID_CA_CERTIFICATE: &str = "NoValidCACertificate";
    /// The reference to the certificate for backends is wrong.
    pub const INVALID_CLIENT_CERTIFICATE_REF: &str = "InvalidClientCertificateRef";
    /// Route kinds that the protocol cannot carry.
    pub const INVALID_ROUTE_KINDS: &str = "InvalidRouteKinds";
    /// A reference into another namespace without a ReferenceGrant.
    pub const REF_NOT_PERMITTED: &str = "RefNotPermitted";
    /// No parent fits the reference.
    pub const NO_MATCHING_PARENT: &str = "NoMatchingParent";
    /// Listeners do not allow the route's kind or namespace.
    pub const NOT_ALLOWED_BY_LISTENERS: &str = "NotAllowedByListeners";
    /// No listener has a hostname in common with the route.
    pub const NO_MATCHING_LISTENER_HOSTNAME: &str = "NoMatchingListenerHostname";
    /// A backend is not there.
    pub const BACKEND_NOT_FOUND: &str = "BackendNotFound";
    /// A backend of a kind that is not supported.
    pub const INVALID_KIND: &str = "InvalidKind";
    /// Our own (EnvoyFilter): a patch that found nothing to patch.
    pub const NO_MATCH: &str = "NoMatch";
    /// Our own (EnvoyFilter): every patch found something.
    pub const MATCHED: &str = "Matched";
    /// Our own (EnvoyFilter): a patch that cannot be read.
    pub const INVALID_PATCH: &str = "InvalidPatch";
}

/// Controller name of the GatewayClass `istio`.
pub const ISTIO_CONTROLLER: &str = "istio.io/gateway-controller";
/// Controller name of our own GatewayClass `ferromesh`.
pub const FERROMESH_CONTROLLER: &str = "ferromesh.io/gateway-controller";
