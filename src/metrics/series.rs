//! Declares series. Each declaration contains the name, the help, the unit (the last part of the
//! name) and the labels.

use prometheus::{
    Counter, CounterVec, GaugeVec, HistogramOpts, HistogramVec, IntCounter, IntCounterVec,
    IntGauge, IntGaugeVec, Opts, Registry, core::Collector,
};

/// Upper bounds of the histograms of durations in seconds, from 100 us to 10 s.
pub(super) const SECONDS: &[f64] = &[
    0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5,
    5.0, 10.0,
];

/// Upper bounds of the histograms of rows. The size of a batch is usually limited to a power of
/// two.
pub(super) const ROWS: &[f64] = &[
    1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1024.0,
];

/// The declaration of one series.
#[derive(Clone, Copy)]
pub(super) struct Declaration {
    pub name: &'static str,
    pub help: &'static str,
    /// The names of the labels. Their values must come from a closed set, never from a request.
    pub labels: &'static [&'static str],
    /// The upper bounds of a histogram. Empty for other kinds of series.
    pub buckets: &'static [f64],
}

/// A kind of series.
pub(super) trait Series: Collector + Clone + Sized + 'static {
    fn create(declaration: &Declaration) -> Result<Self, prometheus::Error>;

    fn register(declaration: &Declaration, registry: &Registry) -> Result<Self, prometheus::Error> {
        let series = Self::create(declaration)?;
        registry.register(Box::new(series.clone()))?;
        Ok(series)
    }
}

macro_rules! labelled {
    ($($kind:ty),*) => {$(
        impl Series for $kind {
            fn create(declaration: &Declaration) -> Result<Self, prometheus::Error> {
                Self::new(Opts::new(declaration.name, declaration.help), declaration.labels)
            }
        }
    )*};
}
labelled!(IntCounterVec, CounterVec, IntGaugeVec, GaugeVec);

macro_rules! single {
    ($($kind:ty),*) => {$(
        impl Series for $kind {
            fn create(declaration: &Declaration) -> Result<Self, prometheus::Error> {
                Self::new(declaration.name, declaration.help)
            }
        }
    )*};
}
single!(IntCounter, IntGauge, Counter);

impl Series for HistogramVec {
    fn create(declaration: &Declaration) -> Result<Self, prometheus::Error> {
        let opts = HistogramOpts::new(declaration.name, declaration.help);
        Self::new(
            opts.buckets(declaration.buckets.to_vec()),
            declaration.labels,
        )
    }
}

/// The declaration of one series, which may have neither labels nor buckets.
macro_rules! declaration {
    ($metric:literal, $help:literal $(, labels: $labels:expr)? $(, buckets: $buckets:expr)?) => {{
        #[allow(unused_mut, unused_assignments, reason = "labels and buckets are optional")]
        let mut declaration = $crate::metrics::series::Declaration {
            name: $metric,
            help: $help,
            labels: &[],
            buckets: &[],
        };
        $(declaration.labels = $labels;)?
        $(declaration.buckets = $buckets;)?
        declaration
    }};
}
pub(super) use declaration;

/// Declares a struct of series with a constructor that registers them.
macro_rules! series {
    (
        $(#[$doc:meta])*
        $visibility:vis struct $name:ident {
            $($field_visibility:vis $field:ident: $kind:ty = $metric:literal, $help:literal
                $(, labels: $labels:expr)? $(, buckets: $buckets:expr)?;)*
        }
    ) => {
        $(#[$doc])*
        #[derive(Clone)]
        $visibility struct $name {
            $($field_visibility $field: $kind,)*
        }

        impl $name {
            #[cfg(test)]
            pub(in crate::metrics) const DECLARED: &'static [$crate::metrics::series::Declaration] = &[$(
                $crate::metrics::series::declaration!(
                    $metric, $help $(, labels: $labels)? $(, buckets: $buckets)?
                ),
            )*];

            $visibility fn register(registry: &prometheus::Registry) -> Result<$name, prometheus::Error> {
                use $crate::metrics::series::{Series, declaration};
                Ok($name {
                    $($field: <$kind>::register(
                        &declaration!($metric, $help $(, labels: $labels)? $(, buckets: $buckets)?),
                        registry,
                    )?,)*
                })
            }
        }
    };
}
pub(super) use series;
