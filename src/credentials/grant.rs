//! What is asked with: a grant, its parameters, and the form that comes of them.

use crate::{
    error::TokenError,
    spec::TokenSpec,
    wire::{Form, Sent},
};

/// What to ask with.
#[derive(Clone, Copy)]
pub(super) struct Grant<'a> {
    grant_type: &'static str,
    /// The grant's own parameters, such as the refresh token. Their values count as secrets.
    params: &'a [(&'static str, &'a str)],
    /// Whether the spec's subject has its part in it.
    with_subject: bool,
}

impl<'a> Grant<'a> {
    /// A grant in which no user has a part.
    pub(super) const fn new(
        grant_type: &'static str,
        params: &'a [(&'static str, &'a str)],
    ) -> Self {
        Self {
            grant_type,
            params,
            with_subject: false,
        }
    }

    /// The same on behalf of the spec's subject.
    pub(super) const fn with_subject(mut self) -> Self {
        self.with_subject = true;
        self
    }

    pub(super) const fn name(&self) -> &'static str {
        self.grant_type
    }

    /// Whether it can be asked for what the spec wants.
    pub(super) fn check(&self, spec: &TokenSpec) -> Result<(), TokenError> {
        // Whatever ignored a subject would give a user's name to a token that is not theirs.
        if self.with_subject || spec.subject().is_none() {
            return Ok(());
        }
        Err(TokenError::configuration(format!(
            "the spec has a subject, and the grant {} is on nobody's behalf: take OnBehalfOf or TokenExchange, or leave the \
             subject out of the spec",
            self.grant_type
        )))
    }

    /// The form for a spec; `extra` are the further parameters of the source. What must not come back in an error is added to
    /// `sent`.
    pub(super) fn form(
        &self,
        spec: &'a TokenSpec,
        extra: impl Iterator<Item = (&'a str, &'a str)>,
        sent: &mut Sent,
    ) -> Result<Form<'a>, TokenError> {
        let mut form = Form::new(self.grant_type);
        for (name, value) in self.params {
            form.push(name, value);
            sent.add(value);
        }
        form.push_scopes(spec.each_scope());
        // RFC 8707 §2: "Multiple resource parameters MAY be used". A single one without scopes is what Microsoft's older
        // endpoints want.
        for resource in spec.each_resource() {
            form.push("resource", resource);
        }
        if let Some(audience) = spec.audience() {
            form.push("audience", audience);
        }
        // RFC 6749 §3.2: "Request and response parameters MUST NOT be included more than once." The spec's counts.
        let extra = extra.filter(|(name, _)| spec.each_extra().all(|(found, _)| found != *name));
        for (name, value) in spec.each_extra().chain(extra) {
            self.leaves(name)?;
            form.push(name, value);
            sent.add_if_long(value);
        }
        Ok(form)
    }

    /// Whether a further parameter of this name is free.
    fn leaves(&self, name: &str) -> Result<(), TokenError> {
        if self.params.iter().all(|(taken, _)| *taken != name) {
            return Ok(());
        }
        Err(TokenError::configuration(format!(
            "the parameter {name} is set by the grant {}: leave it out of the further parameters",
            self.grant_type
        )))
    }
}
