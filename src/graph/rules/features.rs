//! Features: the operators of classical machine learning (`ai.onnx.ml`) and ONNX Runtime's own
//! (`com.microsoft`).

use crate::graph::{
    flow::{Flow, Mixing, TracedTensor},
    rules::{OperatorCall, RuleResult, UNKNOWN},
    size::Size,
};

impl OperatorCall<'_, '_> {
    pub(super) fn machine_learning(&self) -> Option<RuleResult> {
        Some(match self.node.op {
            "Binarizer" | "CategoryMapper" | "LabelEncoder" | "Imputer" | "Scaler" => {
                self.of_features()
            }
            "Normalizer" => self.table(|width| width),
            "OneHotEncoder" => self.one_more(),
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

    /// Counts of the terms in each row; a list is one row.
    pub(super) fn vocabulary(&self) -> RuleResult {
        self.table(|_| self.fresh())
    }

    /// Texts one by one, unless some are left out.
    pub(super) fn normalizer(&self) -> RuleResult {
        if self
            .node
            .attributes
            .get("stopwords")
            .is_some_and(|list| !list.texts.is_empty())
        {
            return Err((Mixing::DataDependent, "leaves out texts"));
        }
        self.first_only()
    }

    /// Numbers that belong to features lie along the last dimension: a single one has none of rows.
    fn of_features(&self) -> RuleResult {
        self.others_same(&[0])?;
        let value = self.input(0)?;
        let per_value = matches!(
            self.node.op,
            "Binarizer" | "CategoryMapper" | "LabelEncoder"
        );
        if !per_value
            && value
                .axis()
                .is_some_and(|axis| value.rank().is_none_or(|rank| axis + 1 >= rank))
        {
            return Err((Mixing::Unknown, "takes a list for the features of one row"));
        }
        Ok(vec![TracedTensor::new(
            value.flow.clone(),
            value.dims.clone(),
        )])
    }

    /// A table of rows and features, of which each row gives a row of `width`.
    fn table(&self, width: impl Fn(Size) -> Size) -> RuleResult {
        self.others_same(&[0])?;
        let value = self.input(0)?;
        if self.rank(value)? != 2 {
            return Err((Mixing::Unknown, "takes a list for the features of one row"));
        }
        if value.axis().is_some_and(|axis| axis != 0) {
            return Err((
                Mixing::Proved,
                "takes the dimension of the rows for features",
            ));
        }
        let dims = vec![
            value.dim(0).cloned().ok_or(UNKNOWN)?,
            width(value.dim(1).cloned().ok_or(UNKNOWN)?),
        ];
        Ok(vec![TracedTensor::new(value.flow.clone(), Some(dims))])
    }

    /// Values that a regressor gives for a row.
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

    /// Labels, one a row, and scores, several a row.
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

    /// A dimension more, as wide as there are categories.
    fn one_more(&self) -> RuleResult {
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

    /// Picks along the last dimension; a list becomes a table of one row.
    fn extractor(&self) -> RuleResult {
        let value = self.input(0)?;
        if let (Flow::Same, Some(indices)) = (
            &value.flow,
            self.optional(1).filter(|indices| indices.axis().is_some()),
        ) {
            // Each row's indices pick from a constant; they lie in one line, row after row.
            let dims = indices.dims.as_ref().ok_or(UNKNOWN)?;
            let before = dims
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
            return if before {
                Ok(vec![TracedTensor::new(Flow::Rows { axis }, Some(picked))])
            } else {
                Err(UNKNOWN)
            };
        }
        self.others_same(&[0])?;
        let rank = self.rank(value)?;
        if rank < 2 || value.axis().is_some_and(|axis| axis + 1 >= rank) {
            return Err((Mixing::Proved, "picks along the dimension of the rows"));
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
        // A list would be one row of several features.
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

    pub(super) fn contributed(&self) -> Option<RuleResult> {
        Some(match self.node.op {
            "Gelu" | "QuickGelu" => self.first_only(),
            "BiasGelu" | "FastGelu" | "BiasAdd" => {
                self.broadcast(&self.inputs.iter().flatten().collect::<Vec<_>>())
            }
            "QuantizeLinear" | "DequantizeLinear" => return self.elementwise(),
            "FusedConv" | "NhwcMaxPool" => self.example(),
            "FusedMatMul" | "TransposeMatMul" if !self.is_turned() => self.product(0, 1, &[]),
            "MatMulIntegerToFloat" => self.product(0, 1, &[2, 3, 4, 5, 6]),
            "MatMulNBits" => self.last_replaced(self.node.int("N")),
            "QLinearAdd" | "QLinearMul" if self.others_same(&[0, 3]).is_ok() => self
                .input(0)
                .and_then(|a| Ok((a, self.input(3)?)))
                .and_then(|(a, b)| self.broadcast(&[a, b])),
            "QLinearSigmoid" | "QLinearLeakyRelu" => self.first_only(),
            "QLinearGlobalAveragePool" | "QLinearAveragePool"
                if self.node.int("channels_last").unwrap_or(0) == 0 =>
            {
                self.example()
            }
            "SkipLayerNormalization" | "SkipSimplifiedLayerNormalization" => {
                self.skip_normalization()
            }
            "Attention" => self.fused_attention(),
            "EmbedLayerNormalization" => self.embedding(),
            "DynamicQuantizeMatMul" | "DynamicQuantizeLSTM" => Err((
                Mixing::Proved,
                "takes one scale from the values of all rows",
            )),
            "Tokenizer" => Err((Mixing::Unknown, "pads each text to the longest of the run")),
            _ => return None,
        })
    }

    fn is_turned(&self) -> bool {
        ["transA", "transB", "transBatchA", "transBatchB"]
            .iter()
            .any(|name| self.node.int(name).unwrap_or(0) != 0)
    }

    /// A product with packed weights along the last dimension.
    fn last_replaced(&self, width: Option<i64>) -> RuleResult {
        self.others_same(&[0])?;
        let value = self.input(0)?;
        let rank = self.rank(value)?;
        if value.axis().is_some_and(|axis| axis + 1 == rank) {
            return Err((Mixing::Proved, "sums over the rows"));
        }
        let mut dims = value.dims.clone().ok_or(UNKNOWN)?;
        dims.pop();
        dims.push(
            width
                .and_then(|width| u64::try_from(width).ok())
                .map_or_else(|| self.fresh(), Size::fixed),
        );
        Ok(vec![TracedTensor::new(value.flow.clone(), Some(dims))])
    }

    /// Normalises along the last dimension what two inputs add up to.
    fn skip_normalization(&self) -> RuleResult {
        self.others_same(&[0, 1])?;
        let sum = self
            .broadcast(&[self.input(0)?, self.input(1)?])?
            .into_iter()
            .next()
            .ok_or(UNKNOWN)?;
        let rank = self.rank(&sum)?;
        let value = self
            .unless_along(&sum, &[rank.saturating_sub(1)])?
            .into_iter()
            .next()
            .ok_or(UNKNOWN)?;
        self.each(value)
    }

    /// [rows, steps, features], weights and bias; a mask of the rows.
    fn fused_attention(&self) -> RuleResult {
        let value = self.input(0)?;
        let own = value
            .dim(0)
            .filter(|_| value.axis() == Some(0) && value.rank() == Some(3))
            .ok_or(UNKNOWN)?;
        let mask = self.optional(3).is_none_or(|mask| {
            mask.axis() == Some(0) && mask.dim(0) == Some(own) && mask.rank() == Some(2)
        });
        if !mask
            || self.inputs.len() > 4
            || self.node.int("unidirectional").unwrap_or(0) != 0 && self.node.outputs.len() > 1
        {
            return Err(UNKNOWN);
        }
        self.others_same(&[0, 3])?;
        let mut dims = value.dims.clone().unwrap_or_default();
        if let Some(last) = dims.last_mut() {
            *last = self.fresh();
        }
        if self.node.outputs.len() > 1 {
            return Err(UNKNOWN);
        }
        Ok(vec![TracedTensor::new(value.flow.clone(), Some(dims))])
    }

    /// Word, position and segment embeddings of [rows, steps]; a mask gives the length of each row.
    fn embedding(&self) -> RuleResult {
        let value = self.input(0)?;
        let own = value
            .dim(0)
            .filter(|_| value.axis() == Some(0) && value.rank() == Some(2))
            .ok_or(UNKNOWN)?;
        for index in [1, 7] {
            if self
                .optional(index)
                .is_some_and(|other| other.axis() != Some(0) || other.dim(0) != Some(own))
            {
                return Err(UNKNOWN);
            }
        }
        self.others_same(&[0, 1, 7])?;
        let mut dims = value.dims.clone().unwrap_or_default();
        dims.push(self.fresh());
        let rows = |dims: Vec<Size>| TracedTensor::new(Flow::Rows { axis: 0 }, Some(dims));
        Ok(vec![
            rows(dims.clone()),
            rows(vec![own.clone()]),
            rows(dims),
        ])
    }
}
