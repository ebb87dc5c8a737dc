//! Columns of a table: a field or a derived column, and its steps.

use serde_json::Value;

use crate::{
    schema::columns::ColumnKind,
    transform::{
        compile::InputCompiler,
        declaration::DeclarationError,
        derived::DerivedColumn,
        field_plan::FieldSpec,
        field_source::FieldSource,
        steps::{CategoryEncoding, PreprocessStep},
        table_column::TableColumn,
    },
};

impl InputCompiler<'_> {
    pub(super) fn plain_column(
        &self,
        field: &str,
        steps: &[PreprocessStep],
        below: &str,
    ) -> Result<TableColumn, DeclarationError> {
        let (source, found) = self.source(field, &format!("{below}/field"))?;
        self.apply_steps(new_column(source, found.kind), found, steps, below)
    }

    /// Compiles a column of two fields. Examples of `member` and `written` are `ratio` and `{"of":
    /// "a", "to": "b"}`.
    pub(super) fn derived_column(
        &self,
        (member, written): (&str, &Value),
        steps: &[PreprocessStep],
        below: &str,
    ) -> Result<TableColumn, DeclarationError> {
        let pointer = format!("{below}/{member}");
        let declared = DerivedColumn::read(member, written)
            .map_err(|error| error.below(&format!("{}{pointer}", self.pointer)))?;
        let number = |key: &str, name: &str| {
            let (source, found) = self.source(name, &format!("{pointer}/{key}"))?;
            match found.kind {
                ColumnKind::Boolean | ColumnKind::Integer | ColumnKind::Number => Ok(source),
                _ => self.fail(
                    &format!("{pointer}/{key}"),
                    format!("`{name}` is neither a number nor a boolean"),
                ),
            }
        };
        let mut source = number("of", declared.first)?;
        let other = number(declared.second_member, declared.second)?;
        let sign = declared.operation.sign();
        source.name = format!("{} {sign} {}", source.name, other.name);
        // A result could reveal a value of the other field.
        source.pii |= other.pii;
        // For the steps, the result is a number that may be missing.
        let result = FieldSpec {
            name: source.name.clone(),
            kind: ColumnKind::Number,
            nullable: true,
            array_shape: None,
            pii: source.pii,
        };
        let mut column = new_column(source, result.kind);
        column.derived = Some((declared.operation, other.column));
        self.apply_steps(column, &result, steps, below)
    }

    fn apply_steps(
        &self,
        mut column: TableColumn,
        field: &FieldSpec,
        steps: &[PreprocessStep],
        below: &str,
    ) -> Result<TableColumn, DeclarationError> {
        for (index, step) in steps.iter().enumerate() {
            let below = format!("{below}/steps/{index}");
            // The indicator replaces the value, so a further step would have no value to process.
            if column.indicator {
                return self.fail(
                    &below,
                    "nothing may follow missing_indicator; name the field once more for its value",
                );
            }
            // The step is allowed only as the first one: after another step, either no value or
            // every value would be missing.
            if matches!(step, PreprocessStep::MissingIndicator(_)) && index == 0 {
                column.indicator = true;
                continue;
            }
            self.apply_step(&mut column, field, step, &below)?;
        }
        let is_number =
            !matches!(field.kind, ColumnKind::Text | ColumnKind::Binary) && !field.kind.is_array();
        if !is_number && column.encoding.is_none() && !column.indicator {
            let detail = format!(
                "{} is not a number: encode it with one_hot, ordinal, target_encode, hash or date_parts",
                column.source.name
            );
            return self.fail(below, detail);
        }
        Ok(column)
    }

    fn apply_step(
        &self,
        column: &mut TableColumn,
        field: &FieldSpec,
        step: &PreprocessStep,
        below: &str,
    ) -> Result<(), DeclarationError> {
        // An encoding ends the steps on the category. Numeric steps follow and process its numbers.
        if column.encoding.is_none() {
            if let Some(encoding) = self.encoding(step, field, below)? {
                column.width = encoding.width();
                column.encoding = Some(encoding);
                return Ok(());
            }
            if field.kind == ColumnKind::Text {
                let Some(step) = self.text_step(step, field, below)? else {
                    return self.fail(below, "this step does not take a string");
                };
                column.text_steps.push(step);
                return Ok(());
            }
        }
        let Some(step) = self.numeric_step(step, below)? else {
            return self.fail(below, "this step does not take a number");
        };
        match &column.encoding {
            None => column.before.push(step),
            // Each part of a date is its own number, unlike the columns of a category.
            Some(encoding)
                if column.width == 1 || matches!(encoding, CategoryEncoding::Dates(_)) =>
            {
                column.after.push(step);
            }
            Some(_) => {
                return self.fail(
                    below,
                    "no numeric step may follow one that makes several columns",
                );
            }
        }
        Ok(())
    }
}

fn new_column(source: FieldSource, kind: ColumnKind) -> TableColumn {
    TableColumn {
        source,
        kind,
        derived: None,
        before: Vec::new(),
        text_steps: Vec::new(),
        encoding: None,
        after: Vec::new(),
        indicator: false,
        width: 1,
    }
}
