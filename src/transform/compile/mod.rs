//! Compiles `preprocessing.json` to a plan for each input of the graph. Everything is checked once,
//! when a version is loaded.

mod column;
mod encoding;
mod image;
mod numeric;
mod text;

use serde_json::Value;

use crate::{
    document,
    schema::columns::ColumnKind,
    tensor::{DataType, Dim, signature::TensorSpec},
    transform::{
        declaration::DeclarationError,
        derived::{MEMBERS, unknown_member},
        field_plan::{FieldPlan, FieldSpec, shape_fits},
        field_source::FieldSource,
        steps::PreprocessStep,
        table_column::TableColumn,
    },
};

/// Compiles the section of one input of the graph.
pub(super) struct InputCompiler<'a> {
    /// The pointer to the section.
    pub(super) pointer: String,
    pub(super) fields: &'a [FieldSpec],
    pub(super) spec: &'a TensorSpec,
}

impl InputCompiler<'_> {
    /// An error at `below`, which is a pointer relative to the section.
    fn error(&self, below: &str, detail: impl Into<String>) -> DeclarationError {
        DeclarationError::new(format!("{}{below}", self.pointer), detail)
    }

    fn fail<T>(&self, below: &str, detail: impl Into<String>) -> Result<T, DeclarationError> {
        Err(self.error(below, detail))
    }

    pub(super) fn section(&self, section: &Value) -> Result<FieldPlan, DeclarationError> {
        let Some(members) = section.as_object() else {
            return self.fail("", "must be an object");
        };
        if let Some(unknown) = members
            .keys()
            .find(|key| !["dtype", "columns", "field", "steps"].contains(&key.as_str()))
        {
            return self.fail(
                &format!("/{unknown}"),
                "unknown member; expected one of: dtype, columns, field, steps",
            );
        }
        // The datatype repeats the datatype of the graph: a reader of the file sees the precision,
        // and a changed graph is detected.
        let datatype = members.get("dtype").and_then(Value::as_str);
        match datatype.and_then(DataType::from_numpy_name) {
            Some(datatype) if datatype == self.spec.datatype => {}
            Some(_) => {
                return self.fail("/dtype", format!("the graph takes {}", self.spec.datatype));
            }
            None => {
                let detail = format!("must be a type such as \"{}\"", self.spec.datatype);
                return self.fail("/dtype", detail);
            }
        }
        match (
            members.get("columns"),
            members.get("field").and_then(Value::as_str),
        ) {
            (None, Some(field)) => {
                self.single(field, self.steps(members.get("steps"), "/steps")?, "")
            }
            (Some(Value::Array(columns)), None) => self.table(columns),
            _ => self.fail(
                "",
                "needs either \"columns\" (a list) or \"field\" (a name)",
            ),
        }
    }

    fn steps(
        &self,
        list: Option<&Value>,
        below: &str,
    ) -> Result<Vec<PreprocessStep>, DeclarationError> {
        let Some(list) = list else {
            return Ok(Vec::new());
        };
        let Some(list) = list.as_array() else {
            return self.fail(below, "must be a list of steps");
        };
        let parse = |(index, step): (usize, &Value)| {
            document::read::<PreprocessStep>(step).map_err(|error| {
                DeclarationError::of_step(&error).below(&format!("{}{below}/{index}", self.pointer))
            })
        };
        list.iter().enumerate().map(parse).collect()
    }

    fn source(
        &self,
        field: &str,
        below: &str,
    ) -> Result<(FieldSource, &FieldSpec), DeclarationError> {
        let column = self.fields.iter().position(|known| known.name == field);
        let Some((column, found)) =
            column.and_then(|column| Some((column, self.fields.get(column)?)))
        else {
            // A misspelled name is the most frequent error.
            let nearest = self
                .fields
                .iter()
                .min_by_key(|known| strsim::damerau_levenshtein(&known.name, field));
            let hint = nearest
                .map(|known| format!("; did you mean \"{}\"?", known.name))
                .unwrap_or_default();
            return self.fail(
                below,
                format!("the schema has no field \"{field}\" with values of one type{hint}"),
            );
        };
        let source = FieldSource {
            column,
            field: field.to_owned(),
            // The name of a nested field is a pointer. Its first slash would look odd in a message.
            name: format!("`{}`", field.trim_start_matches('/')),
            pii: found.pii,
        };
        Ok((source, found))
    }

    fn table(&self, columns: &[Value]) -> Result<FieldPlan, DeclarationError> {
        let columns: Result<Vec<TableColumn>, DeclarationError> = columns
            .iter()
            .enumerate()
            .map(|(index, column)| self.column(column, &format!("/columns/{index}")))
            .collect();
        self.finish_table(columns?)
    }

    fn column(&self, column: &Value, below: &str) -> Result<TableColumn, DeclarationError> {
        let Some(members) = column.as_object() else {
            return self.fail(below, "must be an object");
        };
        if let Some(unknown) = members
            .keys()
            .find(|key| *key != "steps" && !MEMBERS.contains(&key.as_str()))
        {
            return self.fail(&format!("{below}/{unknown}"), unknown_member());
        }
        let steps = self.steps(members.get("steps"), &format!("{below}/steps"))?;
        let mut sources = members.iter().filter(|(key, _)| *key != "steps");
        match (sources.next(), sources.next()) {
            (Some((key, field)), None) if key == "field" => {
                let Some(field) = field.as_str() else {
                    return self.fail(&format!("{below}/field"), "must name a field");
                };
                self.plain_column(field, &steps, below)
            }
            (Some((key, written)), None) => self.derived_column((key, written), &steps, below),
            _ => self.fail(
                below,
                format!("needs exactly one of {}", MEMBERS.join(", ")),
            ),
        }
    }

    fn finish_table(&self, columns: Vec<TableColumn>) -> Result<FieldPlan, DeclarationError> {
        let width = columns.iter().map(|column| column.width).sum();
        // A graph with the input shape [N] also accepts a table of one column.
        let fits = match self.spec.shape.row() {
            [] => width == 1,
            [dim] => dim.fits(width),
            _ => false,
        };
        if !fits {
            return self.fail(
                "",
                format!("makes {width} columns; the graph takes {}", self.spec.shape),
            );
        }
        // A table contains numbers. A graph of strings takes one string field.
        if self.spec.datatype == DataType::Bytes {
            return self.fail("", "the graph takes strings here; name one string field");
        }
        Ok(FieldPlan::Table { columns, width })
    }

    /// The plan for an input without a section: it takes the field with its own name, without
    /// steps.
    pub(super) fn field_of_same_name(&self) -> Result<FieldPlan, DeclarationError> {
        self.single(&self.spec.name, Vec::new(), "")
    }

    fn single(
        &self,
        field: &str,
        steps: Vec<PreprocessStep>,
        below: &str,
    ) -> Result<FieldPlan, DeclarationError> {
        let (source, found) = self.source(field, below)?;
        match found.kind {
            ColumnKind::Binary => self.image(source, &steps),
            ColumnKind::Array | ColumnKind::BooleanArray => self.array(source, found, &steps),
            ColumnKind::Text if self.spec.datatype == DataType::Bytes => {
                self.texts(source, found, &steps)
            }
            _ => self
                .plain_column(field, &steps, below)
                .and_then(|column| self.finish_table(vec![column])),
        }
    }

    fn texts(
        &self,
        source: FieldSource,
        found: &FieldSpec,
        steps: &[PreprocessStep],
    ) -> Result<FieldPlan, DeclarationError> {
        let row = self.spec.shape.row();
        if !matches!(row, [] | [Dim::Any | Dim::Rest | Dim::Fixed(1)]) {
            let detail = format!(
                "a string gives [N] or [N, 1]; the graph takes {}",
                self.spec.shape
            );
            return self.fail("", detail);
        }
        let mut compiled = Vec::new();
        for (index, step) in steps.iter().enumerate() {
            let below = format!("/steps/{index}");
            match self.text_step(step, found, &below)? {
                Some(step) => compiled.push(step),
                None => {
                    return self.fail(
                        &below,
                        "this step does not give a string, which the graph takes",
                    );
                }
            }
        }
        Ok(FieldPlan::Texts {
            source,
            steps: compiled,
        })
    }

    fn array(
        &self,
        source: FieldSource,
        found: &FieldSpec,
        steps: &[PreprocessStep],
    ) -> Result<FieldPlan, DeclarationError> {
        let mut numeric = Vec::new();
        let mut shape = None;
        for (index, step) in steps.iter().enumerate() {
            let below = format!("/steps/{index}");
            match step {
                PreprocessStep::Reshape { shape: wanted } => shape = Some(wanted.clone()),
                step => match self.numeric_step(step, &below)? {
                    Some(step) => numeric.push(step),
                    None => {
                        return self.fail(&below, "this step does not take an array of numbers");
                    }
                },
            }
        }
        // A shape that the schema leaves open is checked for each request.
        if let Some(known) = &found.array_shape {
            // Without this check, a wrong reshape would fail in every request.
            if let Some(shape) = &shape
                && shape.iter().product::<usize>() != known.iter().product::<usize>()
            {
                return self.fail(
                    "/steps",
                    format!("an array of the shape {known:?} can't be reshaped to {shape:?}"),
                );
            }
            let result = shape.as_ref().unwrap_or(known);
            if !shape_fits(self.spec, result) {
                return self.fail(
                    "",
                    format!(
                        "gives rows of the shape {result:?}; the graph takes {}",
                        self.spec.shape
                    ),
                );
            }
        }
        Ok(FieldPlan::Array {
            source,
            steps: numeric,
            shape,
        })
    }
}
