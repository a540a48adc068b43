//! Lists the contenders in the order of the tables.

mod aws_smithy_runtime;
mod azure_core;
mod cf_gears_toolkit_auth;
mod gcp_auth;
mod google_cloud_auth;
pub mod kube_client;
mod reqwest_auth;
mod tonic;
mod tower_bearer;
mod tower_http;
mod tower_retry;
mod yup_oauth2;

use crate::contender::Contender;

/// Returns all contenders, with their tokens cached.
pub async fn all() -> Vec<Contender> {
    vec![
        tower_http::header(),
        tower_retry::header(),
        tonic::interceptor(),
        tower_bearer::without_replay().await,
        tower_bearer::with_replay().await,
        tower_bearer::cloned_handle().await,
        cf_gears_toolkit_auth::plain().await,
        cf_gears_toolkit_auth::auto_refresh().await,
        azure_core::policy().await,
        aws_smithy_runtime::identity_cache().await,
        google_cloud_auth::credentials().await,
        gcp_auth::service_account().await,
        yup_oauth2::service_account().await,
        kube_client::exec_plugin().await,
        kube_client::token_file(),
        reqwest_auth::middleware(),
    ]
}
