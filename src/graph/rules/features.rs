//! Rules of the operators of classical machine learning (`ai.onnx.ml`).

use crate::graph::{
    flow::{Flow, Mixing, TracedTensor},
    rules::{OperatorCall, RowEffect, RuleResult, UNKNOWN},
    size::Size,
};

impl OperatorCall<'_, '_> {
    pub(super) fn machine_learning(&self) -> Option<RuleResult> {
        Some(match self.node.op {
            "Binarizer" | "CategoryMapper" | "LabelEncoder" | "Imputer" | "Scaler" => {
                self.per_feature()
            }
            "Normalizer" => self.table(|width| width),
            "OneHotEncoder" => self.one_hot_encoder(),
            "TreeEnsembleClassifier" | "LinearClassifier" | "SVMClassifier" => self.classifier(),
            "TreeEnsembleRegressor" | "TreeEnsemble" | "LinearRegressor" | "SVMRegressor" => {
                self.table(|_| self.targets())
            }
            "ArrayFeatureExtractor" => self.extractor(),
            "FeatureVectorizer" => self.vectorizer(),
            "ZipMap" => self
                .input(0)
                .map(|value| vec![TracedTensor::new(value.flow.clone(), None)]),
            _ => return None,
        })
    }

    /// The rule of an operator that counts the terms of each row. A list is one row.
    pub(super) fn vocabulary(&self) -> RuleResult {
        self.table(|_| self.fresh())
    }

    /// The rule of StringNormalizer. It treats each string independently, unless stop words are
    /// removed.
    pub(super) fn normalizer(&self) -> RuleResult {
        if self
            .node
            .attributes
            .get("stopwords")
            .is_some_and(|list| !list.texts.is_empty())
        {
            return Err(RowEffect(Mixing::DataDependent, "removes texts"));
        }
        self.first_only()
    }

    /// The rule of operators with features along the last dimension. A list has no dimension of
    /// rows.
    fn per_feature(&self) -> RuleResult {
        self.others_same(&[0])?;
        let value = self.input(0)?;
        // These operators treat each value independently, so the last dimension does not matter.
        let per_value = matches!(
            self.node.op,
            "Binarizer" | "CategoryMapper" | "LabelEncoder"
        );
        if !per_value
            && value
                .axis()
                .is_some_and(|axis| value.rank().is_none_or(|rank| axis + 1 >= rank))
        {
            return Err(RowEffect(
                Mixing::Unknown,
                "treats a list as the features of one row",
            ));
        }
        Ok(vec![TracedTensor::new(
            value.flow.clone(),
            value.dims.clone(),
        )])
    }

    /// The rule of a table of rows and features. `width` computes the width of the output.
    fn table(&self, width: impl Fn(Size) -> Size) -> RuleResult {
        self.others_same(&[0])?;
        let value = self.input(0)?;
        // ONNX Runtime reads a list as one row of features.
        if self.rank(value)? != 2 {
            return Err(RowEffect(
                Mixing::Unknown,
                "treats a list as the features of one row",
            ));
        }
        // The operator reads dimension 1 as features.
        if value.axis().is_some_and(|axis| axis != 0) {
            return Err(RowEffect(
                Mixing::Proved,
                "treats the dimension of the rows as features",
            ));
        }
        let dims = vec![
            value.dim(0).cloned().ok_or(UNKNOWN)?,
            width(value.dim(1).cloned().ok_or(UNKNOWN)?),
        ];
        Ok(vec![TracedTensor::new(value.flow.clone(), Some(dims))])
    }

    /// The number of values per row that a regressor gives.
    fn targets(&self) -> Size {
        let declared = match self.node.op {
            "SVMRegressor" => Some(1),
            "LinearRegressor" => Some(self.node.int("targets").unwrap_or(1)),
            _ => self.node.int("n_targets"),
        };
        declared
            .and_then(|count| u64::try_from(count).ok())
            .map_or_else(|| self.fresh(), Size::fixed)
    }

    /// The rule of a classifier: one label and several scores per row.
    fn classifier(&self) -> RuleResult {
        let classes = [
            "classlabels_strings",
            "classlabels_ints",
            "classlabels_int64s",
        ]
        .iter()
        .find_map(|name| {
            let attribute = self.node.attributes.get(name)?;
            Some(attribute.texts.len().max(attribute.ints.len())).filter(|count| *count > 0)
        });
        let mut scores = self
            .table(|_| classes.map_or_else(|| self.fresh(), |count| Size::fixed(count as u64)))?;
        let first = scores.first().ok_or(UNKNOWN)?;
        let labels = TracedTensor::new(
            first.flow.clone(),
            first
                .dims
                .as_ref()
                .map(|dims| dims.iter().take(1).cloned().collect()),
        );
        scores.insert(0, labels);
        Ok(scores)
    }

    /// The rule of OneHotEncoder. It adds a dimension with one element per category.
    fn one_hot_encoder(&self) -> RuleResult {
        let value = self.input(0)?;
        let mut dims = value.dims.clone().ok_or(UNKNOWN)?;
        let counts = ["cats_int64s", "cats_strings"]
            .iter()
            .filter_map(|name| self.node.attributes.get(name));
        let width = counts
            .map(|list| list.ints.len().max(list.texts.len()))
            .max()
            .filter(|width| *width > 0);
        dims.push(width.map_or_else(|| self.fresh(), |width| Size::fixed(width as u64)));
        Ok(vec![TracedTensor::new(value.flow.clone(), Some(dims))])
    }

    /// The rule of ArrayFeatureExtractor. It selects along the last dimension. A list becomes a
    /// table of one row.
    fn extractor(&self) -> RuleResult {
        let value = self.input(0)?;
        if let (Flow::Same, Some(indices)) = (
            &value.flow,
            self.optional(1).filter(|indices| indices.axis().is_some()),
        ) {
            // The indices of the rows select from a constant. The result contains the selected
            // values in a list.
            let dims = indices.dims.as_ref().ok_or(UNKNOWN)?;
            let is_first = dims
                .iter()
                .take(indices.axis().unwrap_or_default())
                .all(Size::is_one);
            let mut picked = value.dims.clone().ok_or(UNKNOWN)?;
            picked.pop();
            if picked.is_empty() {
                picked.push(Size::fixed(1));
            }
            let axis = picked.len();
            picked.push(Size::product(dims).ok_or(UNKNOWN)?);
            return if is_first {
                Ok(vec![TracedTensor::new(Flow::Rows { axis }, Some(picked))])
            } else {
                Err(UNKNOWN)
            };
        }
        self.others_same(&[0])?;
        let rank = self.rank(value)?;
        // The operator treats a list as one row, so the elements of a list must not be rows.
        if rank < 2 || value.axis().is_some_and(|axis| axis + 1 >= rank) {
            return Err(RowEffect(
                Mixing::Proved,
                "picks along the dimension of the rows",
            ));
        }
        let mut dims = value.dims.clone().ok_or(UNKNOWN)?;
        dims.pop();
        dims.push(
            self.optional(1)
                .and_then(|indices| Size::product(indices.dims.as_ref()?))
                .unwrap_or_else(|| self.fresh()),
        );
        Ok(vec![TracedTensor::new(value.flow.clone(), Some(dims))])
    }

    fn vectorizer(&self) -> RuleResult {
        let first = self.input(0)?;
        let own = first
            .dim(0)
            .filter(|_| first.axis() == Some(0))
            .ok_or(UNKNOWN)?;
        // A list would be one row of several features instead of several rows.
        if self.inputs.iter().flatten().any(|value| {
            value.rank() != Some(2) || value.axis() != Some(0) || value.dim(0) != Some(own)
        }) {
            return Err(UNKNOWN);
        }
        Ok(vec![TracedTensor::new(
            Flow::Rows { axis: 0 },
            Some(vec![own.clone(), self.fresh()]),
        )])
    }
}
